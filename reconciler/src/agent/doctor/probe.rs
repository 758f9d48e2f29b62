//! How long do the peers take to answer, where no daemon runs that knows?
//!
//! In: their addresses. Out: a [`Trip`] each, by ICMP echo (RFC 792, RFC 4443): twenty requests, 50 ms apart.
//! Not here: what a daemon measures by its own heartbeats (`trips`).

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::super::clock;
use super::super::trips::Trip;
use crate::name::NodeName;
use crate::time::micros;

const REQUESTS: u16 = 20;
const APART: Duration = Duration::from_millis(50);

/// Asks every peer, one after the other in each round; an error where this user may send no echo request.
pub fn ask(peers: &[(NodeName, IpAddr)]) -> Result<Vec<Trip>, String> {
    let mut asked = Vec::new();
    for (name, address) in peers {
        let (domain, protocol) = match address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        // The datagram kind needs no capability, but a group that net.ipv4.ping_group_range names.
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))
            .map_err(|error| format!("no echo request can be sent: {error} (net.ipv4.ping_group_range)"))?;
        let ready =
            socket.set_read_timeout(Some(APART)).and_then(|()| socket.connect(&SocketAddr::new(*address, 0).into()));
        asked.push((name, address.is_ipv4(), socket, ready.is_ok(), Vec::new(), 0));
    }
    for sequence in 0..REQUESTS {
        let began = clock::now();
        for (_, ipv4, socket, ready, samples, lost) in &mut asked {
            match (*ready).then(|| round_trip(socket, *ipv4, sequence)).flatten() {
                Some(took) => samples.push(took),
                None => *lost += 1,
            }
        }
        std::thread::sleep(APART.saturating_sub(clock::now().since(began)));
    }
    Ok(asked.into_iter().map(|(name, _, _, _, samples, lost)| Trip::of(name.clone(), &samples, lost)).collect())
}

/// One echo request; the kernel sets identifier and checksum.
fn round_trip(socket: &Socket, ipv4: bool, sequence: u16) -> Option<u64> {
    let [high, low] = sequence.to_be_bytes();
    let mut request = [0_u8; 64];
    request[0] = if ipv4 { 8 } else { 128 };
    (request[6], request[7]) = (high, low);
    let sent = clock::now();
    socket.send(&request).ok()?;
    let mut buffer = [MaybeUninit::uninit(); 128];
    while clock::now().since(sent) < APART {
        let length = socket.recv(&mut buffer).ok()?;
        let took = micros(clock::now().since(sent));
        let bytes: Vec<u8> = buffer[..length.min(8)].iter().map(|byte| socket_byte(*byte)).collect();
        // An answer to an earlier request came late.
        if bytes.get(6..8) == Some(&[high, low]) {
            return Some(took);
        }
    }
    None
}

fn socket_byte(byte: MaybeUninit<u8>) -> u8 {
    // SAFETY: the kernel has written as many bytes as `recv` returned, and no others are read.
    #[expect(unsafe_code, reason = "socket2 receives into uninitialised memory")]
    unsafe {
        byte.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_answers_itself() {
        let me = (NodeName::new("me").unwrap(), IpAddr::from([127, 0, 0, 1]));
        match ask(&[me]) {
            Ok(trips) => assert_eq!((trips[0].samples, trips[0].lost), (usize::from(REQUESTS), 0)),
            Err(why) => assert!(why.contains("ping_group_range"), "{why}"),
        }
    }
}
