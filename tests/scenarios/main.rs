//! Whole clusters on one simulated clock: the protocol keeps its promises, and the judges notice when a rule is missing.
//!
//! `alone`: pools that may have two owners. `apart`: two that do not hear each other. `behind`: one node that cannot fetch. `checks`: who is healthy. `grown`: the declared
//! set shrinks and grows. `returns`: one that comes back. (`lan` is what these five are played on.) `mutants`: each is a rule
//! taken out. `replay`: what one node was told, told again. `weather`: every rule kept, under every kind of fault.

mod alone;
mod apart;
mod behind;
mod checks;
mod grown;
mod lan;
mod mutants;
mod replay;
mod returns;
mod weather;
