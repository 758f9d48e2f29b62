//! Linger: who goes on speaking to the old owner after a planned move is served, by real sockets, both families.
//!
//! A client that takes gratuitous ARP and unsolicited advertisements follows the VIP at once. One that ignores them (here
//! with a permanent neighbour entry) goes on sending to the old owner, which accepts traffic for the linger.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::link::mac_text;
use rendezvip::lab::now;
use rendezvip::lab::stage::Stage;

use crate::in_a_lab;
use crate::stages::{NODES, PATIENCE, owner_of_v6, stage, within};

const POOL: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: [10.99.0.104, \
                    \"fd99::100\"]\n  together: true\n  handover: {linger: 6s}\n";
const PORT: u16 = 7000;
/// A server's name is the first byte of what it says.
const SAID: usize = 2;

/// Echoes on every address, TCP and UDP, with the place of the server before it: `a`, `b` or `c`.
fn serve(stage: &Stage, name: &str, vips: &[IpAddr]) {
    let initial = name.as_bytes()[name.len() - 1];
    let place = stage.cluster.segment.node(name).place();
    let vips = vips.to_vec();
    let (listener, sockets) = place.run(move || {
        // So that a datagram socket of each VIP may wait for it on every node: its answers come from the VIP then.
        for family in ["ipv4", "ipv6"] {
            std::fs::write(format!("/proc/sys/net/{family}/ip_nonlocal_bind"), "1").unwrap();
        }
        let sockets: Vec<UdpSocket> = vips.iter().map(|vip| UdpSocket::bind((*vip, PORT)).unwrap()).collect();
        (TcpListener::bind(("::", PORT)).unwrap(), sockets)
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0; 1];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[initial, byte[0]]).is_ok() {}
            });
        }
    });
    for socket in sockets {
        std::thread::spawn(move || {
            let mut byte = [0; 1];
            while let Ok((_, from)) = socket.recv_from(&mut byte) {
                let _ = socket.send_to(&[initial, byte[0]], from);
            }
        });
    }
}

/// Who answers a byte on this connection.
fn tcp(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(&[7])?;
    let mut said = [0; SAID];
    stream.read_exact(&mut said)?;
    Ok(said[0])
}

fn udp(socket: &UdpSocket) -> std::io::Result<u8> {
    socket.send(&[7])?;
    let mut said = [0; SAID];
    socket.recv(&mut said)?;
    Ok(said[0])
}

/// Connects from the client's host.
fn connect(stage: &Stage, vip: IpAddr) -> std::io::Result<(TcpStream, UdpSocket)> {
    stage.cluster.segment.client().run(move || {
        let patience = Some(Duration::from_secs(2));
        let stream = TcpStream::connect_timeout(&SocketAddr::new(vip, PORT), Duration::from_secs(2))?;
        stream.set_read_timeout(patience)?;
        stream.set_nodelay(true)?;
        let socket = UdpSocket::bind(if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect((vip, PORT))?;
        socket.set_read_timeout(patience)?;
        Ok((stream, socket))
    })
}

fn ip(stage: &Stage, words: &[&str]) {
    let mut command = std::process::Command::new("ip");
    command.args(words);
    let output = stage.cluster.segment.client().output(command).unwrap();
    assert!(output.status.success(), "ip {words:?}: {output:?}");
}

#[test]
fn whoever_speaks_to_the_old_owner_is_served_until_the_linger_ends_and_the_others_follow() {
    in_a_lab(|| {
        let stage = &mut stage(Layout::default(), &[("pools/web.yaml", POOL)]);
        let owner = owner_of_v6(stage);
        let (mac, vips): (_, Vec<IpAddr>) = (stage.mac(&owner), stage.vips().into_iter().collect());
        assert_eq!(stage.vips_of(&owner).len(), 2, "they move as one");
        NODES.iter().for_each(|name| serve(stage, name, &vips));
        let old = owner.as_bytes()[owner.len() - 1];
        // A client that hears no announcement.
        for vip in &vips {
            ip(
                stage,
                &["neigh", "replace", &vip.to_string(), "lladdr", &mac_text(mac), "nud", "permanent", "dev", "eth0"],
            );
        }
        let mut flows: Vec<_> = vips.iter().map(|vip| connect(stage, *vip).unwrap()).collect();
        for (stream, socket) in &mut flows {
            assert_eq!((tcp(stream).unwrap(), udp(socket).unwrap()), (old, old));
        }
        let moved_at = now();
        stage.command(&owner, &["drain"]).unwrap();
        let elsewhere =
            |who: &std::collections::BTreeMap<IpAddr, _>| who.len() == 2 && who.values().all(|at| *at != mac);
        assert!(stage.bystander.wait(PATIENCE, elsewhere).is_some(), "{}", stage.logs());
        // Established ones go on without a hitch, also after neighbours made sure of each other again.
        while now().since(moved_at) < Duration::from_secs(4) {
            for ((stream, socket), vip) in flows.iter_mut().zip(&vips) {
                assert_eq!(tcp(stream).ok(), Some(old), "TCP to {vip}\n{}", stage.logs());
                assert_eq!(udp(socket).ok(), Some(old), "UDP to {vip}\n{}", stage.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for vip in &vips {
            let (mut stream, _) = connect(stage, *vip).unwrap_or_else(|error| panic!("a new one to {vip}: {error}"));
            assert_eq!(tcp(&mut stream).ok(), Some(old), "a new one to {vip}");
        }
        assert_eq!(stage.bystander.doubles(moved_at), [], "it accepts, and answers no question");
        assert_eq!(stage.overlaps(moved_at), [""; 0]);
        // The linger ends; whoever never heard of the move is served no more, and by the new owner once it asks.
        let over = within(Duration::from_secs(10), || flows.iter_mut().all(|(stream, _)| tcp(stream).is_err()));
        assert!(over, "the linger does not end\n{}", stage.logs());
        for vip in &vips {
            ip(stage, &["neigh", "del", &vip.to_string(), "dev", "eth0"]);
            let (mut stream, socket) = connect(stage, *vip).unwrap_or_else(|error| panic!("{vip}: {error}"));
            let new = tcp(&mut stream).unwrap();
            assert!(new != old && udp(&socket).unwrap() == new, "{vip} is served by its new owner");
        }
    });
}
