//! A network of hosts: a bridge in a namespace of its own, and a namespace on each of its ports.

use std::net::Ipv4Addr;

use super::Failure;
use super::command::{feed, run};
use super::faults::{Faults, Rate, dropped, port};
use super::namespace::{Inside, Namespace};

/// A bridge and its hosts, made for one scenario. Dropping it removes them.
#[derive(Debug)]
pub struct Lab {
    // Threads must have left their namespaces before these are removed.
    hosts: Vec<Host>,
    bridge: Namespace,
}

#[derive(Debug)]
struct Host {
    inside: Inside,
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Lab {
    /// Makes `hosts` hosts, which can all reach each other.
    pub fn new(hosts: usize) -> Result<Self, Failure> {
        let bridge = Namespace::new("bridge")?;
        run("ip", &["-n", bridge.name(), "link", "add", "br0", "type", "bridge"])?;
        run("ip", &["-n", bridge.name(), "link", "set", "br0", "up"])?;
        let mut lab = Self { hosts: Vec::new(), bridge };
        for _ in 0..hosts {
            lab.add_host()?;
        }
        Ok(lab)
    }

    /// Adds one more host; returns its number.
    pub fn add_host(&mut self) -> Result<usize, Failure> {
        let number = self.hosts.len();
        let namespace = Namespace::new(&format!("h{}", number + 1))?;
        let (bridge, inner, port) = (self.bridge.name(), namespace.name(), port(number));
        // Both ends are created in their namespaces: the machine's own namespace never contains
        // them.
        run(
            "ip",
            &["-n", bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", inner],
        )?;
        run("ip", &["-n", bridge, "link", "set", &port, "master", "br0", "up"])?;
        let address = Ipv4Addr::new(10, 77, 0, u8::try_from(number + 1).map_err(|_| "too many hosts")?);
        run("ip", &["-n", inner, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        run("ip", &["-n", inner, "link", "set", "eth0", "up"])?;
        let inside = Inside::enter(inner)?;
        self.hosts.push(Host { inside, namespace, address });
        Ok(number)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// A thread in the host's namespace.
    pub fn inside(&self, host: usize) -> &Inside {
        &self.hosts[host].inside
    }

    /// The host's address on the bridge.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.hosts[host].address
    }

    /// Replaces the host's address.
    pub fn readdress(&mut self, host: usize, address: Ipv4Addr) -> Result<(), Failure> {
        let host = &mut self.hosts[host];
        let name = host.namespace.name();
        run("ip", &["-n", name, "addr", "del", &format!("{}/24", host.address), "dev", "eth0"])?;
        run("ip", &["-n", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.address = address;
        Ok(())
    }

    /// Gives the host one more address.
    pub fn add_address(&self, host: usize, address: Ipv4Addr) -> Result<(), Failure> {
        let name = self.hosts[host].namespace.name();
        run("ip", &["-n", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]).map(drop)
    }

    /// Replaces the faults of the bridge by these.
    pub fn set_faults(&self, faults: &Faults) -> Result<(), Failure> {
        feed("ip", &["netns", "exec", self.bridge.name(), "nft", "-f", "-"], &faults.ruleset()).map(drop)
    }

    /// How many packets the present faults have dropped.
    pub fn dropped(&self) -> Result<u64, Failure> {
        let list = ["netns", "exec", self.bridge.name(), "nft", "list", "table", "bridge", "faults"];
        Ok(dropped(&run("ip", &list)?))
    }

    /// Limits the rate of the host's link, in both directions, or removes the limit.
    pub fn set_rate(&self, host: usize, rate: Option<Rate>) -> Result<(), Failure> {
        let port = port(host);
        for (name, device) in
            [(self.bridge.name(), port.as_str()), (self.hosts[host].namespace.name(), "eth0")]
        {
            // There may be none yet.
            let _ = run("tc", &["-n", name, "qdisc", "del", "dev", device, "root"]);
            let Some(rate) = rate else { continue };
            let (bits, queue) = (format!("{}bit", rate.bits_per_second), format!("{}ms", rate.queue_ms));
            let bucket = ["tbf", "rate", &bits, "burst", "5kb", "latency", &queue];
            run("tc", &[&["-n", name, "qdisc", "add", "dev", device, "root"][..], &bucket].concat())?;
        }
        Ok(())
    }

    /// The namespaces, to check that they are removed.
    pub fn namespaces(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(|host| host.namespace.name().to_owned());
        hosts.chain([self.bridge.name().to_owned()]).collect()
    }
}
