//! Rows that are filled again and again. Most of what the journal thread did for a session was to
//! ask for memory for its texts, which are nearly always those of the session before it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use schemas::table::{Session, Usage};

use super::layout::Words;
use super::names;

/// One row of each kind.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) session: Session,
    pub(super) usage: Usage,
    pub(super) session_texts: Texts,
    pub(super) usage_texts: Texts,
}

/// What the texts of a row were made from. Names are never changed under their ids, so texts of
/// the same words are the same.
#[derive(Debug, Default)]
pub(super) struct Texts {
    names: Option<[(u32, u32); 2]>,
    target_name: Option<u32>,
    pub(super) client: Address,
    pub(super) listen: Address,
    pub(super) egress: Address,
    pub(super) target: Address,
    pub(super) proxied_client: Address,
}

impl Texts {
    /// Fills in service, rule, configuration and customer.
    pub(super) fn names(
        &mut self,
        table: Words<'_>,
        ids: [(u32, u32); 2],
        [service, rule, config_rev]: [&mut String; 3],
        customer: &mut Option<String>,
    ) {
        if self.names == Some(ids) {
            return;
        }
        self.names = Some(ids);
        let [(service_id, rule_id), (customer_id, config_id)] = ids;
        *service = names::name(table, service_id);
        *rule = names::name(table, rule_id);
        *config_rev = names::name(table, config_id);
        *customer = names::optional_name(table, customer_id);
    }

    /// Fills in the target's name.
    pub(super) fn target_name(&mut self, table: Words<'_>, id: u32, to: &mut Option<String>) {
        if self.target_name != Some(id) {
            self.target_name = Some(id);
            *to = names::optional_name(table, id);
        }
    }
}

/// The address that a text shows; `None`: the text is not there, or empty.
#[derive(Debug, Default)]
pub(super) struct Address(Option<u128>);

impl Address {
    /// Makes `text` show an address.
    pub(super) fn show(&mut self, bits: u128, text: &mut String) {
        if self.0 == Some(bits) {
            return;
        }
        self.0 = Some(bits);
        text.clear();
        let ip = Ipv6Addr::from_bits(bits).to_canonical();
        match ip {
            IpAddr::V4(ip) => {
                for (at, byte) in ip.octets().into_iter().enumerate() {
                    if at > 0 {
                        text.push('.');
                    }
                    push_decimal(byte, text);
                }
            }
            IpAddr::V6(ip) => write!(text, "{ip}").expect("a text takes more text"),
        }
    }

    /// Makes `text` show an address, or be absent.
    pub(super) fn show_if(&mut self, there: bool, bits: u128, text: &mut Option<String>) {
        if there {
            self.show(bits, text.get_or_insert_default());
        } else {
            self.0 = None;
            *text = None;
        }
    }
}

/// The formatter of the standard library takes ten times as long, and there are four addresses in
/// each session's row.
fn push_decimal(byte: u8, text: &mut String) {
    let digit = |value: u8| char::from(b'0' + value % 10);
    if byte >= 100 {
        text.push(digit(byte / 100));
    }
    if byte >= 10 {
        text.push(digit(byte / 10));
    }
    text.push(digit(byte));
}

/// Makes `text` say `word`, in the memory it has.
pub(super) fn say(word: &str, text: &mut String) {
    text.clear();
    text.push_str(word);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use schemas::vocab::{BootId, SpoolId, Timestamp};

    use super::*;
    use crate::accounting::layout::{Geometry, Header, SLOT_WORDS};
    use crate::accounting::slot::{Last, SlotView};

    fn words() -> impl Strategy<Value = Vec<u64>> {
        // Few different values, so that a slot often has something of the one before it.
        let word = prop_oneof![Just(0), 0_u64..4, any::<u64>(), Just(0x0100_0100_0300)];
        prop::collection::vec(word, SLOT_WORDS)
    }

    fn fill(table: Words<'_>, words: &[u64], lost: bool, pages: &mut Pages) {
        for (word, value) in table.slot(0).iter().zip(words) {
            word.store(*value, Ordering::Relaxed);
        }
        let slot = SlotView::new(table, 0);
        let at = Timestamp(7);
        slot.fill_last(
            pages,
            if lost { Last::Lost { died: at } } else { Last::Ended { found: at } },
        );
        slot.fill_usage(pages, slot.baseline(), slot.totals());
    }

    proptest! {
        #[test]
        fn a_page_that_is_filled_again_says_what_a_fresh_one_would(
            slots in prop::collection::vec((words(), any::<bool>()), 1..6),
        ) {
            let geometry = Geometry { slots: 1 };
            let memory: Vec<_> = (0..geometry.words()).map(|_| AtomicU64::new(0)).collect();
            let header = Header {
                node: "edge".to_owned(),
                boot: BootId::from_random(1),
                started: Timestamp(0),
                slot_len_s: 1,
                spool_id: SpoolId(1),
                spool_path: "/spool".to_owned(),
                kernel_boot: 1,
            };
            let table = Words::create(&memory, geometry, &header).unwrap();
            names::register(table, "web").unwrap();
            names::register(table, "everyone").unwrap();
            let mut used = Pages::default();
            for (words, lost) in &slots {
                let mut fresh = Pages::default();
                fill(table, words, *lost, &mut fresh);
                fill(table, words, *lost, &mut used);
                prop_assert_eq!(&used.session, &fresh.session);
                prop_assert_eq!(&used.usage, &fresh.usage);
            }
        }
    }

    #[test]
    fn addresses_are_shown_as_the_standard_library_shows_them() {
        let (mut address, mut text) = (Address::default(), String::new());
        for ip in ["0.0.0.0", "1.22.133.255", "255.100.99.10", "::1", "2001:db8::ffff:1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let bits = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            address.show(bits, &mut text);
            assert_eq!(text, ip.to_string());
            address.show(bits, &mut text);
            assert_eq!(text, ip.to_string());
        }
        let mut some = Some(text);
        address.show_if(false, 1, &mut some);
        assert_eq!(some, None);
        address.show_if(true, 1, &mut some);
        assert_eq!(some.as_deref(), Some("::1"));
    }
}
