//! `tabledb` on its own, in a program without an async runtime: `cargo run -p tabledb --example embed`.

use std::time::Duration;

use tabledb::{ChangeKind, Config, NodeName, TableDb, WatchEvent, WatchFilter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tables = TableDb::new(Config::starting_now(NodeName::new("proxy-1")?))?;
    tables.join_network("blue")?;
    tables.create("blue", "services", "web", *b"10.0.0.7:80")?;

    // Another thread watches: first a snapshot, then each change.
    let mut watch =
        tables.watch(WatchFilter { table: Some("services".to_owned()), ..WatchFilter::default() });
    let follower = std::thread::spawn(move || {
        while let Some(WatchEvent::Change(change)) = watch.next_timeout(Duration::from_secs(1)) {
            let text =
                |value: Option<_>| value.map(|v: tabledb::Value| String::from_utf8_lossy(&v).into_owned());
            println!(
                "{:?} {}: {:?} -> {:?}",
                change.kind,
                change.key,
                text(change.previous),
                text(change.value)
            );
            if change.kind == ChangeKind::Delete {
                break;
            }
        }
    });

    tables.update("blue", "services", "web", *b"10.0.0.8:80")?;
    tables.create("blue", "services", "db", *b"10.0.0.9:5432")?;
    let mistake = tables.create("blue", "services", "db", *b"10.0.0.9:5433");
    println!("error: {}", mistake.expect_err("the key is taken"));
    for entry in tables.entries("blue", "services") {
        println!(
            "{} is at {}, reports {}",
            entry.key(),
            String::from_utf8_lossy(entry.value()),
            entry.owner()
        );
    }
    tables.delete("blue", "services", "web")?;
    follower.join().map_err(|_| "the follower panicked")?;
    Ok(())
}
