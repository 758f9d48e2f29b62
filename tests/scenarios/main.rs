//! Whole clusters on one simulated clock: the protocol keeps its promises, and the judges notice when a rule is missing.
//!
//! `behind`: one node that cannot fetch. `mutants`: each is a rule taken out. `replay`: what one node was told, told again.
//! `weather`: every rule kept, under every kind of fault.

mod behind;
mod mutants;
mod replay;
mod weather;
