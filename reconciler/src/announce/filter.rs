//! Which frames does the kernel hand to the packet socket?
//!
//! In: nothing. Out: a classic BPF program (Linux, Documentation/networking/filter.rst). Not here: attaching it
//! (`agent`).
//!
//! ARP, and neighbour solicitations and advertisements that stand directly behind the IPv6 header. Two traps are
//! closed here, as nothing behind the socket can see them any more: frames of a VLAN, whose tag the kernel has taken
//! off, are not of this interface; and frames that this node sent itself come by too.

/// One instruction: code, jump if true, jump if false, operand (`struct sock_filter`, linux/filter.h).
pub type Instruction = (u16, u8, u8, u32);

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Ancillary data of the frame (`SKF_AD_OFF`, linux/filter.h).
const ANCILLARY: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = ANCILLARY + 4;
const VLAN_TAG: u32 = ANCILLARY + 44;
/// `PACKET_OUTGOING`, linux/if_packet.h.
const OUTGOING: u32 = 4;
/// The number of a VLAN within its tag; 0 is only a priority.
const VLAN_ID: u32 = 0x0fff;

const REFUSE: Instruction = (RETURN, 0, 0, 0);
const ACCEPT: Instruction = (RETURN, 0, 0, 0xffff);

/// ARP, neighbour solicitations and advertisements that somebody else sent on this very interface.
pub fn arp_and_ndp() -> Vec<Instruction> {
    vec![
        (LOAD_BYTE, 0, 0, PACKET_TYPE),
        (JUMP_EQUAL, 10, 0, OUTGOING),
        (LOAD_WORD, 0, 0, VLAN_TAG),
        (JUMP_ANY_BIT, 8, 0, VLAN_ID),
        (LOAD_HALF, 0, 0, 12),
        (JUMP_EQUAL, 7, 0, 0x0806),
        (JUMP_EQUAL, 0, 5, 0x86dd),
        (LOAD_BYTE, 0, 0, 14 + 6),
        (JUMP_EQUAL, 0, 3, 58),
        (LOAD_BYTE, 0, 0, 14 + 40),
        (JUMP_EQUAL, 2, 0, 135),
        (JUMP_EQUAL, 1, 0, 136),
        REFUSE,
        ACCEPT,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a frame: how many bytes of it to keep. As in `___bpf_prog_run`, a load beyond
    /// the frame refuses it.
    fn run(program: &[Instruction], frame: &[u8], packet_type: u32, vlan_tag: u32) -> u32 {
        let (mut at, mut value) = (0_usize, 0_u32);
        loop {
            let (code, yes, no, k) = program[at];
            at += 1;
            let load = |bytes: usize| -> Option<u32> {
                match k {
                    PACKET_TYPE => Some(packet_type),
                    VLAN_TAG => Some(vlan_tag),
                    _ => {
                        let field = frame.get(k as usize..k as usize + bytes)?;
                        Some(field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
                    }
                }
            };
            let loaded = match code {
                LOAD_BYTE => load(1),
                LOAD_HALF => load(2),
                LOAD_WORD => load(4),
                RETURN => return k,
                JUMP_EQUAL | JUMP_ANY_BIT => {
                    let jumps = if code == JUMP_EQUAL { value == k } else { value & k != 0 };
                    at += usize::from(if jumps { yes } else { no });
                    continue;
                }
                _ => panic!("unknown instruction {code:#x}"),
            };
            match loaded {
                Some(loaded) => value = loaded,
                None => return 0,
            }
        }
    }

    fn accepts(frame: &[u8], packet_type: u32, vlan_tag: u32) -> bool {
        run(&arp_and_ndp(), frame, packet_type, vlan_tag) > 0
    }

    fn v6(next_header: u8, kind: u8) -> Vec<u8> {
        let mut frame = vec![0; 78];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = next_header;
        frame[54] = kind;
        frame
    }

    fn arp() -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame
    }

    #[test]
    fn arp_solicitations_and_advertisements_pass_and_nothing_else() {
        assert!(accepts(&arp(), 0, 0) && accepts(&v6(58, 135), 2, 0) && accepts(&v6(58, 136), 2, 0));
        assert!(!accepts(&v6(58, 134), 2, 0), "router advertisement");
        assert!(!accepts(&v6(58, 128), 0, 0), "echo");
        assert!(!accepts(&v6(17, 135), 0, 0), "UDP");
        let mut v4 = arp();
        v4[12..14].copy_from_slice(&[0x08, 0]);
        v4[20] = 58;
        assert!(!accepts(&v4, 0, 0), "IPv4");
        for cut in 0..=54 {
            assert!(!accepts(&v6(58, 135)[..cut], 0, 0), "cut to {cut}");
        }
    }

    #[test]
    fn own_frames_and_frames_of_another_vlan_are_refused() {
        assert!(!accepts(&arp(), OUTGOING, 0));
        assert!(!accepts(&arp(), 1, 0x200a), "VLAN 10, with a priority");
        assert!(accepts(&arp(), 1, 0x2000), "a priority alone is no VLAN");
    }

    #[test]
    fn every_frame_that_linux_made_passes() {
        let vectors = include_str!("../../../tests/vectors/frames.txt");
        let frames: Vec<Vec<u8>> = vectors
            .lines()
            .filter(|line| line.len() > 80 && line.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .map(|hex| (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect())
            .collect();
        assert_eq!(frames.len(), 11);
        assert!(frames.iter().all(|frame| accepts(frame, 0, 0)));
    }
}
