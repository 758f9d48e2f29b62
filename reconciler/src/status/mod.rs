//! What really happened, as files that a person reviews: records to status files, summary, commit message.
//!
//! In: the nodes' records, the view. Out: file contents and when to commit them.
//! Not here: git (`agent`), HTTP (`agent`).
