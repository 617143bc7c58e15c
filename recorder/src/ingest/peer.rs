//! Who may be which node.

use schemas::vocab::NodeName;

use crate::config::Allow;

/// The rules of `allow`, for peers that the kernel vouches for.
#[derive(Debug)]
pub(super) struct Peers {
    own_uid: u32,
    allow: Vec<Allow>,
}

impl Peers {
    pub(super) fn new(allow: Vec<Allow>) -> Self {
        Self { own_uid: rustix::process::geteuid().as_raw(), allow }
    }

    /// Whether a process of `uid` may be `node`; if not, a sentence for both sides.
    pub(super) fn may_be(&self, uid: u32, node: &NodeName) -> Result<(), String> {
        let trusted = uid == self.own_uid || uid == 0;
        let entry_allows = |entry: &Allow| match entry.uid {
            Some(allowed) => allowed == uid,
            None => trusted,
        };
        if self.allow.is_empty() {
            return if trusted {
                Ok(())
            } else {
                Err(format!(
                    "uid {uid} may not be node {node}: without `allow` only our own user (uid {}) \
                     and root may; write allow = [{{ node = \"{node}\", uid = {uid} }}] in \
                     recorder.toml",
                    self.own_uid
                ))
            };
        }
        let mut entries = self.allow.iter().filter(|entry| entry.node == *node).peekable();
        if entries.peek().is_none() {
            return Err(format!("node {node} is not in `allow` of recorder.toml"));
        }
        if entries.any(entry_allows) {
            return Ok(());
        }
        Err(format!(
            "uid {uid} may not be node {node}: `allow` of recorder.toml names another user"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn without_allow_our_own_user_and_root_may_be_any_node() {
        let peers = Peers { own_uid: 1000, allow: Vec::new() };
        assert!(peers.may_be(1000, &node("a")).is_ok());
        assert!(peers.may_be(0, &node("b")).is_ok());
        assert!(peers.may_be(1001, &node("a")).is_err());
    }

    #[test]
    fn an_entry_with_a_uid_is_for_that_user_alone() {
        let entry = |name, uid| Allow { node: node(name), uid };
        let allow = vec![entry("a", Some(1001)), entry("b", None)];
        let peers = Peers { own_uid: 1000, allow };
        assert!(peers.may_be(1001, &node("a")).is_ok());
        assert!(peers.may_be(1000, &node("a")).is_err());
        assert!(peers.may_be(1000, &node("b")).is_ok());
        assert!(peers.may_be(1001, &node("b")).is_err());
        assert!(peers.may_be(1000, &node("c")).is_err());
    }
}
