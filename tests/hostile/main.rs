//! What a stranger on the segment, or one with an old key, can do to a node by what it sends: nothing.
//!
//! Through the public interface alone, as an attacker meets it. The rules one by one are tested beside their code.

mod datagrams;
mod frames;
