//! Who owns each VIP: a pure function of what is desired and of what the members of a view offer.
//!
//! In: `Desired`, offers. Out: owner and backups of each VIP. Integers only: all nodes compute the same bits.
//! Not here: who is a member (`membership`), moving a VIP (`engine`).

pub mod offer;
