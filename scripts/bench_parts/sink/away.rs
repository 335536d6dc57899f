//! A host that is some milliseconds away: what it says arrives that much later, in the same order and at the same pace.
//!
//! What the client says arrives at once, so this time is that of a round trip. Replies that follow each other do not
//! wait for each other, as on a long line. Three threads for each connection; all end with the process.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A port that leads to the other one, the long way.
pub fn relay(port: u16, away: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that cannot be led on is closed, which the client sees.
            let _closed = lead(client, port, away);
        }
    });
    Ok(ours)
}

fn lead(client: TcpStream, port: u16, away: Duration) -> io::Result<()> {
    let host = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.set_nodelay(true)?;
    host.set_nodelay(true)?;
    let (there, back) = (client.try_clone()?, host.try_clone()?);
    let (sender, receiver) = channel();
    std::thread::spawn(move || pass(there, &host));
    std::thread::spawn(move || take(back, &sender));
    std::thread::spawn(move || give(&client, &receiver, away));
    Ok(())
}

/// What the client says, at once.
fn pass(mut client: TcpStream, mut host: &TcpStream) {
    let _ended = io::copy(&mut client, &mut host);
    let _ended = host.shutdown(Shutdown::Write);
}

/// What the host says, with the time at which it said so.
fn take(mut host: TcpStream, to: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = host.read(&mut buffer) {
        let said = buffer.get(..n).unwrap_or_default().to_vec();
        if to.send((Instant::now(), said)).is_err() {
            return;
        }
    }
}

/// The same, later.
fn give(mut client: &TcpStream, from: &Receiver<(Instant, Vec<u8>)>, away: Duration) {
    for (at, said) in from {
        std::thread::sleep((at + away).saturating_duration_since(Instant::now()));
        if client.write_all(&said).is_err() {
            break;
        }
    }
    let _ended = client.shutdown(Shutdown::Both);
}
