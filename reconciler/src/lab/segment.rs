//! A segment: a switch, nodes, a client and a bystander, and what can happen to them.
//!
//! In: how many nodes. Out: hosts with addresses on one bridge, and the faults of the field: cables, power, signals,
//! loss and partitions.
//! Not here: what the nodes run (`story`), what is measured (`client`, `bystander`).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::faults::{self, Direction, Fault, Frames};
use super::link::{Counters, Links, Mac};
use super::namespace::{Place, ROOT};
use super::{LabError, Step};

/// The bridge that VIPs are on.
const LAN: &str = "lan";
/// The bridge of a gossip network of its own.
const BACK: &str = "back";

/// The client's place on the segment.
const CLIENT: u8 = 240;
/// The bystander's place on the segment.
const BYSTANDER: u8 = 241;

/// One host's place on a segment: its addresses follow from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(u8);

impl Seat {
    /// 10.99.0.N.
    pub const fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.0)
    }

    /// fd99::N, the digits of N read as hexadecimal.
    pub fn v6(self) -> Ipv6Addr {
        let digits = u16::from(self.0);
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, digits / 100 * 256 + digits / 10 % 10 * 16 + digits % 10)
    }

    /// 10.98.0.N, on the gossip network.
    pub const fn back(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 98, 0, self.0)
    }

    /// The hardware address of eth0.
    pub const fn mac(self) -> Mac {
        [0x02, 0, 0x0a, 0x63, 0, self.0]
    }

    /// The hardware address of eth1.
    const fn back_mac(self) -> Mac {
        [0x02, 0, 0x0a, 0x62, 0, self.0]
    }

    fn networks(self) -> [IpNet; 2] {
        [net(self.v4().into(), 16), net(self.v6().into(), 64)]
    }
}

fn net(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).unwrap_or_else(|_| IpNet::from(address))
}

/// A node of the segment: a host that may die, hang and lose its cable.
#[derive(Debug)]
pub struct Node {
    name: String,
    seat: Seat,
    place: Place,
    with_back: bool,
}

impl Node {
    /// Its name, which is its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses.
    pub const fn seat(&self) -> Seat {
        self.seat
    }

    /// The inside of the host.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Its disk: a folder that outlives the host's processes and its reboots.
    pub fn disk(&self) -> PathBuf {
        Path::new(ROOT).join("disks").join(&self.name)
    }

    fn port(&self) -> String {
        format!("lan-{}", self.seat.0)
    }

    fn back_port(&self) -> String {
        format!("back-{}", self.seat.0)
    }
}

/// A layer-2 segment with hosts on it. All of it is gone when it is dropped.
#[derive(Debug)]
pub struct Segment {
    switch: Place,
    nodes: Vec<Node>,
    client: Place,
    bystander: Place,
    faults: Vec<Fault>,
}

impl Segment {
    /// Lays a segment with a node for each name; `gossip_network` gives each a second interface on another bridge.
    pub fn new(names: &[&str], gossip_network: bool) -> Result<Self, LabError> {
        let switch = Place::new("switch")?;
        switch
            .run(move || {
                let mut links = Links::open()?;
                links.up("lo")?;
                links.bridge(LAN)?;
                if gossip_network { links.bridge(BACK) } else { Ok(()) }
            })
            .step(|| "lay the bridges".to_owned())?;
        let client = guest(&switch, "client", Seat(CLIENT))?;
        let bystander = guest(&switch, "bystander", Seat(BYSTANDER))?;
        let mut segment = Self { switch, nodes: Vec::new(), client, bystander, faults: Vec::new() };
        for (number, name) in (10..).zip(names) {
            let seat = Seat(number);
            let place = Place::new(name)?;
            let node = Node { name: (*name).to_owned(), seat, place, with_back: gossip_network };
            fs::create_dir_all(node.disk()).step(|| format!("make the disk of {name}"))?;
            plug(&segment.switch, &node)?;
            segment.nodes.push(node);
        }
        Ok(segment)
    }

    /// The nodes, in the order in which they were named.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    ///
    /// # Panics
    /// Where the segment has none of that name: the caller named them.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("the segment has no node `{name}`"))
    }

    /// The node that a hardware address belongs to.
    pub fn who(&self, mac: Mac) -> Option<&Node> {
        self.nodes.iter().find(|node| node.seat.mac() == mac)
    }

    /// The client's host.
    pub const fn client(&self) -> &Place {
        &self.client
    }

    /// The bystander's host.
    pub const fn bystander(&self) -> &Place {
        &self.bystander
    }

    /// The bystander's own addresses, to ask from.
    pub fn bystander_addresses(&self) -> [IpAddr; 2] {
        [Seat(BYSTANDER).v4().into(), Seat(BYSTANDER).v6().into()]
    }

    /// The bystander's hardware address.
    pub const fn bystander_mac() -> Mac {
        Seat(BYSTANDER).mac()
    }

    /// Pulls a node's eth0 out of the switch: it loses its carrier.
    pub fn pull_cable(&self, name: &str) -> io::Result<()> {
        let port = self.node(name).port();
        self.switch.run(move || Links::open()?.down(&port))
    }

    /// Plugs it in again.
    pub fn plug_cable(&self, name: &str) -> io::Result<()> {
        let port = self.node(name).port();
        self.switch.run(move || Links::open()?.up(&port))
    }

    /// The power goes: the node's cable is dead and all its processes are gone, in the same instant.
    pub fn power_off(&self, name: &str) -> io::Result<()> {
        let node = self.node(name);
        let ports = [Some(node.port()), node.with_back.then(|| node.back_port())];
        self.switch.run(move || {
            let mut links = Links::open()?;
            ports.iter().flatten().try_for_each(|port| links.down(port))
        })?;
        node.place.power_off()
    }

    /// The power is back: a new boot with a kernel that knows nothing; its disk is as it was.
    pub fn power_on(&mut self, name: &str) -> Result<(), LabError> {
        let position =
            self.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| panic!("no node `{name}`"));
        let old = &self.nodes[position];
        let ports = [Some(old.port()), old.with_back.then(|| old.back_port())];
        self.switch
            .run(move || {
                let mut links = Links::open()?;
                ports.iter().flatten().try_for_each(|port| links.delete(port))
            })
            .step(|| format!("unplug {name}"))?;
        let node = Node { name: name.to_owned(), seat: old.seat, place: Place::new(name)?, with_back: old.with_back };
        plug(&self.switch, &node)?;
        self.nodes[position] = node;
        // Rules sat on the port that is gone.
        self.apply().step(|| format!("put the faults of {name} back"))
    }

    /// `percent` of these frames to or from a node's eth0 are lost from now on.
    pub fn lose(&mut self, name: &str, direction: Direction, frames: Frames, percent: u8) -> io::Result<()> {
        let port = self.node(name).port();
        self.faults.push(Fault { port, direction, frames, percent });
        self.apply()
    }

    /// What `from` sends does not reach `to` any more; the other way is not touched.
    pub fn deafen(&mut self, to: &str, from: &str) -> io::Result<()> {
        let mac = self.node(from).seat.mac();
        self.lose(to, Direction::In, Frames::From(mac), 100)
    }

    /// The nodes of `left` and `right` do not hear each other any more; everybody else hears both.
    pub fn partition(&mut self, left: &[&str], right: &[&str]) -> io::Result<()> {
        for one in left {
            for other in right {
                self.deafen(one, other)?;
                self.deafen(other, one)?;
            }
        }
        Ok(())
    }

    /// No frame is lost any more; pulled cables stay pulled.
    pub fn heal(&mut self) -> io::Result<()> {
        self.faults.clear();
        self.apply()
    }

    /// What a node's eth0 sent and received so far, in frames, seen from the node.
    pub fn counters(&self, name: &str) -> io::Result<Counters> {
        let port = self.node(name).port();
        let port = self.switch.run(move || Links::open()?.counters(&port))?;
        Ok(Counters { received: port.sent, sent: port.received })
    }

    fn apply(&self) -> io::Result<()> {
        let faults = self.faults.clone();
        self.switch.run(move || faults::set(&faults))
    }
}

/// A host that only looks on.
fn guest(switch: &Place, name: &str, seat: Seat) -> Result<Place, LabError> {
    let place = Place::new(name)?;
    // Nobody waits for its link-local address to be found unique.
    place
        .run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))
        .step(|| format!("set up IPv6 of {name}"))?;
    connect(switch, &place, LAN, &format!("lan-{}", seat.0), "eth0", seat.mac(), seat.networks().to_vec())
        .step(|| format!("plug {name} into the switch"))?;
    Ok(place)
}

fn plug(switch: &Place, node: &Node) -> Result<(), LabError> {
    let (seat, step) = (node.seat, || format!("plug {} into the switch", node.name));
    connect(switch, &node.place, LAN, &node.port(), "eth0", seat.mac(), seat.networks().to_vec()).step(step)?;
    if node.with_back {
        let back = vec![net(seat.back().into(), 16)];
        connect(switch, &node.place, BACK, &node.back_port(), "eth1", seat.back_mac(), back).step(step)?;
    }
    Ok(())
}

fn connect(
    switch: &Place,
    place: &Place,
    bridge: &'static str,
    port: &str,
    interface: &'static str,
    mac: Mac,
    addresses: Vec<IpNet>,
) -> io::Result<()> {
    let (port, network) = (port.to_owned(), place.network().try_clone()?);
    switch.run(move || {
        let mut links = Links::open()?;
        links.veth(&port, interface, mac, &network)?;
        links.enslave(&port, bridge)?;
        links.up(&port)
    })?;
    place.run(move || {
        let mut links = Links::open()?;
        links.up("lo")?;
        links.up(interface)?;
        addresses.into_iter().try_for_each(|address| links.add_address(interface, address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seats_addresses_show_its_number() {
        assert_eq!(Seat(10).v4().to_string(), "10.99.0.10");
        assert_eq!(Seat(10).v6().to_string(), "fd99::10");
        assert_eq!(Seat(241).v6().to_string(), "fd99::241");
    }
}
