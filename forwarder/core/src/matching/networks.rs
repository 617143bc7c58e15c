//! Which rules name the networks that a client is in.
//!
//! Every network that a rule names is a node of a prefix trie. A node knows the rules that name it
//! in `from`, those that name it in `not_from`, and the next node around it. A client is in the
//! longest network that holds it and in those around that one: 33 at most if it is IPv4, 129 if it
//! is IPv6. Nothing of an outer network is copied into the inner ones, so memory grows with the
//! number of networks alone.
//!
//! Sets of rules are bits, in words of 64 rules, and words without a bit are left out: ten thousand
//! rules about one network are 157 words, and one rule about ten thousand networks is one word for
//! each.

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

/// Rules in a word.
pub(super) const WORD: usize = u64::BITS as usize;

/// Networks that hold one client, at most: one of each prefix length.
const DEEPEST: usize = 129;

/// Where a rule stands: its word, and its bit there.
pub(super) fn place(rule: usize) -> (usize, u64) {
    (rule / WORD, 1 << (rule % WORD))
}

/// A network in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mention {
    /// Without host bits.
    pub(super) network: IpNet,
    /// Whether the rule is about others than this network's clients.
    pub(super) except: bool,
    /// The rule's index.
    pub(super) rule: u32,
}

/// All networks that rules name.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks {
    trie: JointPrefixMap<IpNet, u32>,
    nodes: Vec<Node>,
    words: Vec<Word>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    around: Option<u32>,
    from: Span,
    except: Span,
}

/// 64 rules.
#[derive(Debug, Clone, Copy)]
struct Word {
    at: u32,
    bits: u64,
}

/// A piece of the words.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Networks {
    /// The networks of the rules.
    ///
    /// # Panics
    /// There are four thousand million mentions, more than memory holds.
    pub(super) fn new(mut mentions: Vec<Mention>) -> Self {
        // Outer networks come before inner ones then.
        mentions.sort_unstable();
        mentions.dedup();
        let mut networks = Self::default();
        let mut around: Vec<(IpNet, u32)> = Vec::new();
        for of_network in mentions.chunk_by(|one, other| one.network == other.network) {
            let network = of_network[0].network;
            while around.last().is_some_and(|(outer, _)| !outer.contains(&network)) {
                around.pop();
            }
            let (from, except) =
                of_network.split_at(of_network.partition_point(|mention| !mention.except));
            let node = Node {
                around: around.last().map(|(_, node)| *node),
                from: networks.span(from),
                except: networks.span(except),
            };
            let index = index_of(networks.nodes.len());
            networks.nodes.push(node);
            networks.trie.insert(network, index);
            around.push((network, index));
        }
        networks
    }

    fn span(&mut self, mentions: &[Mention]) -> Span {
        let start = index_of(self.words.len());
        for mention in mentions {
            let (at, bit) = place(mention.rule as usize);
            let at = index_of(at);
            match self.words[start as usize..].last_mut() {
                Some(word) if word.at == at => word.bits |= bit,
                _ => self.words.push(Word { at, bits: bit }),
            }
        }
        Span { start, end: index_of(self.words.len()) }
    }

    /// The rules about the networks that hold `client`.
    pub(super) fn around(&self, client: IpNet) -> Around<'_> {
        let mut around =
            Around { from: Reading::new(&self.words), except: Reading::new(&self.words) };
        let mut next = self.trie.get_lpm(&client).map(|(_, node)| *node);
        while let Some(index) = next {
            let node = &self.nodes[index as usize];
            around.from.add(node.from);
            around.except.add(node.except);
            next = node.around;
        }
        around
    }
}

fn index_of(len: usize) -> u32 {
    u32::try_from(len).expect("memory holds fewer networks than four thousand million")
}

/// The rules about one client's networks.
#[derive(Debug)]
pub(super) struct Around<'a> {
    /// Those that name one in `from`.
    pub(super) from: Reading<'a>,
    /// Those that name one in `not_from`.
    pub(super) except: Reading<'a>,
}

/// Several sets of rules, read together from the first rule to the last.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    words: &'a [Word],
    /// What is left of each set; none is empty.
    spans: [Span; DEEPEST],
    len: usize,
}

impl<'a> Reading<'a> {
    fn new(words: &'a [Word]) -> Self {
        Self { words, spans: [Span::default(); DEEPEST], len: 0 }
    }

    fn add(&mut self, span: Span) {
        if span.start < span.end {
            self.spans[self.len] = span;
            self.len += 1;
        }
    }

    /// The next word in which any set has a rule.
    pub(super) fn next(&self) -> Option<usize> {
        let first = |span: &Span| self.words[span.start as usize].at;
        self.spans[..self.len].iter().map(first).min().map(|at| at as usize)
    }

    /// The rules of all sets in the word `at`, which must be beyond those read before.
    pub(super) fn read(&mut self, at: usize) -> u64 {
        let mut bits = 0;
        let mut index = 0;
        while index < self.len {
            let span = &mut self.spans[index];
            while span.start < span.end {
                let word = self.words[span.start as usize];
                if word.at as usize > at {
                    break;
                }
                if word.at as usize == at {
                    bits |= word.bits;
                }
                span.start += 1;
            }
            if span.start < span.end {
                index += 1;
            } else {
                self.len -= 1;
                self.spans[index] = self.spans[self.len];
            }
        }
        bits
    }
}
