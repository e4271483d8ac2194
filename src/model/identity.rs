//! Which node has created a container. Several daemons may share an engine.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// The identity of a node. It is empty where the node has none, as in a test: then its containers have no label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeIdentity {
    /// Random.
    pub id: String,
    /// The state folder.
    pub root: String,
    /// The key of the digests in labels.
    pub key: DigestKey,
}

/// A secret key. Labels are exported by monitoring, so a digest of a short password must not be guessable.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DigestKey(String);

impl DigestKey {
    /// A key of random text.
    pub fn new(random: String) -> Self {
        Self(random)
    }

    /// Whether there is none: then a digest could be guessed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A short digest of a value at a path: two of the same path differ where the values do.
    pub fn digest(&self, path: &str, value: &impl Serialize) -> String {
        let mut digest = super::manifest::digest(&(&self.0, path, value));
        digest.truncate(8);
        digest
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

/// The node that has created a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    ThisNode,
    /// A release without identities, or Wings. Such a container counts as this node's.
    Unlabelled,
    /// Another node, which shares the engine. Its containers are left alone.
    Other(OtherNode),
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherNode {
    /// Its id.
    pub id: String,
    /// Its state folder, when it created the container.
    pub root: String,
}

/// Label that holds the id of the node that has created a container.
pub const LABEL_NODE: &str = "alula.node";
/// Label that holds the state folder of that node.
pub const LABEL_ROOT: &str = "alula.root";

impl NodeIdentity {
    /// The owner of a container with these labels. Of two nodes with the same state folder, one is this node before the file with its id
    /// was lost.
    pub fn owner<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Owner {
        let root = label(LABEL_ROOT);
        match label(LABEL_NODE) {
            None | Some("") => Owner::Unlabelled,
            Some(id) if id == self.id || root == Some(&self.root) => Owner::ThisNode,
            Some(id) => Owner::Other(OtherNode { id: id.to_owned(), root: root.unwrap_or_default().to_owned() }),
        }
    }
}

impl Owner {
    /// The other node that has created it.
    pub fn other(&self) -> Option<&OtherNode> {
        match self {
            Owner::Other(other) => Some(other),
            Owner::ThisNode | Owner::Unlabelled => None,
        }
    }
}

impl Display for OtherNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another alula node ({}", self.id)?;
        if !self.root.is_empty() {
            write!(f, ", state folder {}", self.root)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_belongs_to_the_node_of_its_label_or_to_this_one() {
        let node = NodeIdentity { id: "a".into(), root: "/here".into(), ..NodeIdentity::default() };
        let owner = |id: Option<&'static str>, root: Option<&'static str>| {
            node.owner(|label| if label == LABEL_NODE { id } else { root.filter(|_| label == LABEL_ROOT) })
        };
        assert_eq!(owner(Some("a"), None), Owner::ThisNode);
        assert_eq!(owner(Some("a"), Some("/before/it/was/moved")), Owner::ThisNode);
        assert_eq!(owner(Some("lost"), Some("/here")), Owner::ThisNode);
        for unknown in [None, Some("")] {
            assert_eq!(owner(unknown, Some("/elsewhere")), Owner::Unlabelled);
        }
        let other = owner(Some("b"), Some("/elsewhere"));
        let text = other.other().unwrap().to_string();
        assert_eq!(text, "another alula node (b, state folder /elsewhere)");
    }

    #[test]
    fn digests_need_the_key() {
        let (key, other) = (DigestKey::new("k".into()), DigestKey::new("other".into()));
        let digest = key.digest("a", &"secret");
        assert_eq!(digest.len(), 8);
        assert_eq!(key.clone().digest("a", &"secret"), digest);
        assert_ne!(key.digest("b", &"secret"), digest);
        assert_ne!(key.digest("a", &"other"), digest);
        assert_ne!(other.digest("a", &"secret"), digest);
        assert!(!format!("{other:?}").contains(&other.0), "the key is in no log");
    }
}
