//! Colour for what people look at first: green is as it should be, yellow is on its way, red wants somebody.
//!
//! In: words. Out: the same, in SGR sequences where colour is wanted. Not here: whether it is (`terminal`).

use crate::status::condition::{Condition, ConditionType, Truth};
use crate::status::snapshot::{MemberState, VipState};

/// Paints, or leaves as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, style: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// As it should be.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// On its way.
    pub fn fair(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Wants somebody.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A headline.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A node's state.
    pub fn member(self, state: MemberState) -> String {
        let text = state.to_string();
        match state {
            MemberState::Alive => self.good(&text),
            MemberState::Suspect | MemberState::Left => self.fair(&text),
            MemberState::Dead => self.bad(&text),
        }
    }

    /// A VIP's state.
    pub fn vip(self, state: VipState) -> String {
        let text = state.to_string();
        match state {
            VipState::Held => self.good(&text),
            VipState::Moving => self.fair(&text),
            VipState::Unowned | VipState::Conflict | VipState::Refused => self.bad(&text),
        }
    }

    /// A condition's type, as good or bad as its status is.
    pub fn condition(self, condition: &Condition) -> String {
        let text = format!("{:?}", condition.kind);
        let wanted = condition.kind == ConditionType::Ready;
        match condition.status {
            Truth::Unknown => self.fair(&text),
            status if (status == Truth::True) == wanted => self.good(&text),
            _ if condition.kind == ConditionType::Reconciling => self.fair(&text),
            _ => self.bad(&text),
        }
    }
}
