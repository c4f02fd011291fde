//! The UDP socket of the endpoint, and the null socket that replaces it at the end.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::BindError;

/// Binds a UDP socket with buffers as large as the system grants, up to `buffer` bytes each.
pub(crate) fn bind(address: SocketAddr, buffer: usize) -> Result<UdpSocket, BindError> {
    open(address, buffer).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => BindError::InUse(address),
        ErrorKind::AddrNotAvailable => BindError::NotLocal(address),
        ErrorKind::PermissionDenied => BindError::NotPermitted(address),
        _ => BindError::Socket { address, error },
    })
}

fn open(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Listening on all addresses includes those of IPv4. Not every system supports that on such a
        // socket.
        let _ = socket.set_only_v6(false);
    }
    // The defaults of the system lose packets under load. A smaller buffer than requested is no error.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The canonical form of an address, for comparisons: an IPv4 address as IPv4, also on a socket for both
/// families.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => std::net::SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        v4 => v4,
    }
}

/// The host of an address, for limits per host. For IPv6 it is the /64, because one host can use any
/// number of addresses in it. An IPv4 address mapped into IPv6 counts as that IPv4 address.
pub fn host_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

/// A socket that discards everything that is sent and never receives. A node whose socket is replaced by
/// it behaves like a crashed one.
#[derive(Debug)]
pub(crate) struct NullSocket(pub(crate) SocketAddr);

impl AsyncUdpSocket for NullSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, _transmit: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _context: &mut Context<'_>,
        _buffers: &mut [IoSliceMut<'_>],
        _meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_one_form() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(canonical(address("[::ffff:10.0.0.1]:7946")), address("10.0.0.1:7946"));
        assert_eq!(canonical(address("10.0.0.1:7946")), address("10.0.0.1:7946"));
        assert_eq!(canonical(address("[::1]:7946")), address("[::1]:7946"));
    }

    #[test]
    fn errors_of_the_system_are_distinguished() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let address = first.local_addr().unwrap();
        assert!(matches!(bind(address, 0), Err(BindError::InUse(found)) if found == address));
        // An address for documentation (RFC 5737) belongs to no host.
        let foreign = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(bind(foreign, 0), Err(BindError::NotLocal(found)) if found == foreign));
    }
}
