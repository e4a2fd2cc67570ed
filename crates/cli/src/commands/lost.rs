//! What a command that follows says while there is no daemon: one line for
//! each change of that state, however often it tries.

use std::fmt;

/// The reason that was said last, while there is no connection.
#[derive(Default)]
pub(super) struct Lost {
    said: Option<String>,
}

impl Lost {
    /// An attempt failed, or a connection ended: what to say, if it is new.
    pub(super) fn why(&mut self, error: impl fmt::Display) -> Option<String> {
        let line = format!("{error}; trying again");
        if self.said.as_ref() == Some(&line) {
            return None;
        }
        self.said = Some(line.clone());
        Some(line)
    }

    /// There is a connection.
    pub(super) fn found(&mut self) {
        self.said = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_until_it_changes() {
        let mut lost = Lost::default();
        assert_eq!(lost.why("cut").as_deref(), Some("cut; trying again"));
        assert_eq!(lost.why("nobody").as_deref(), Some("nobody; trying again"));
        assert_eq!(lost.why("nobody"), None);
        assert_eq!(lost.why("nobody"), None);
        lost.found();
        assert_eq!(lost.why("nobody").as_deref(), Some("nobody; trying again"));
    }
}
