//! Names: as they are, and as a power loss may leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::After;
use super::content::Chance;
use crate::fs::parent;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    /// The file of this number.
    File(usize),
}

type Tree = BTreeMap<PathBuf, Node>;

/// All names of a disk.
#[derive(Debug, Clone)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    /// What leads from the one to the other, oldest first.
    changes: Vec<Change>,
}

/// One change of a directory, or of two at once: it survives whole or not at all.
#[derive(Debug, Clone)]
struct Change {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
    /// The directories that must be synced until it is durable.
    unsynced: BTreeSet<PathBuf>,
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        if let Some(path) = &self.removed {
            tree.remove(path);
        }
        if let Some((path, node)) = &self.added {
            tree.insert(path.clone(), *node);
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        let root = Tree::from([(PathBuf::from("/"), Node::Directory)]);
        Self { now: root.clone(), durable: root, changes: Vec::new() }
    }
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> io::Result<Node> {
        self.now.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.get(path)? {
            Node::File(file) => Ok(file),
            Node::Directory => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        match self.get(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// That a name can be made: its directory is there, and it is not.
    pub(super) fn vacant(&self, path: &Path) -> io::Result<()> {
        self.directory(parent(path))?;
        match self.now.get(path) {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => Ok(()),
        }
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) {
        self.change(None, Some((path.to_owned(), node)));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Some(path.to_owned()), None);
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, file: usize) {
        self.change(Some(from.to_owned()), Some((to.to_owned(), Node::File(file))));
    }

    fn change(&mut self, removed: Option<PathBuf>, added: Option<(PathBuf, Node)>) {
        let paths = removed.iter().chain(added.iter().map(|(path, _)| path));
        let unsynced = paths.map(|path| parent(path).to_owned()).collect();
        let change = Change { removed, added, unsynced };
        change.apply(&mut self.now);
        self.changes.push(change);
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        for change in &mut self.changes {
            change.unsynced.remove(directory);
        }
        // A durable change behind one that is not stays in the list: they are done in order.
        let durable = self.changes.iter().take_while(|change| change.unsynced.is_empty()).count();
        for change in self.changes.drain(..durable) {
            change.apply(&mut self.durable);
        }
    }

    /// A name that was always there.
    pub(super) fn plant(&mut self, path: &Path, node: Node) {
        self.now.insert(path.to_owned(), node);
        self.durable.insert(path.to_owned(), node);
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path.as_path(), *file)),
            Node::Directory => None,
        })
    }

    pub(super) fn within<'n>(
        &'n self,
        directory: &'n Path,
    ) -> impl Iterator<Item = (&'n Path, Node)> {
        let entries = self.now.range(directory.to_owned()..);
        entries
            .take_while(move |(path, _)| path.starts_with(directory))
            .filter(move |(path, _)| path.parent() == Some(directory))
            .map(|(path, node)| (path.as_path(), *node))
    }

    pub(super) fn survivors(&self, after: After) -> Self {
        let After::PowerLoss { seed } = after else { return self.clone() };
        let mut chance = Chance::new(seed);
        let mut left = self.durable.clone();
        for change in &self.changes {
            let by_luck = match seed {
                0 | 1 => seed == 1,
                _ => chance.below(2) == 0,
            };
            if by_luck || change.unsynced.is_empty() {
                change.apply(&mut left);
            }
        }
        // What is in a directory that did not survive is gone with it. Parents come first.
        let mut reached = Tree::new();
        for (path, node) in left {
            if path.parent().is_none_or(|parent| reached.get(parent) == Some(&Node::Directory)) {
                reached.insert(path, node);
            }
        }
        Self { now: reached.clone(), durable: reached, changes: Vec::new() }
    }
}
