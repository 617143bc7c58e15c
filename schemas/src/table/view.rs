//! Rows where they lie in the messages that they came in: what the recorder checks and publishes
//! without making a string of every text.

/// The type of a column's value in a view.
macro_rules! borrowed {
    ($a:lifetime Text) => { &$a str };
    ($a:lifetime OptText) => { Option<&$a str> };
    ($a:lifetime Word) => { &$a str };
    ($a:lifetime OptWord) => { Option<&$a str> };
    ($a:lifetime Time) => { i64 };
    ($a:lifetime OptTime) => { Option<i64> };
    ($a:lifetime Int64) => { i64 };
    ($a:lifetime OptInt64) => { Option<i64> };
    ($a:lifetime Int32) => { i32 };
    ($a:lifetime OptInt32) => { Option<i32> };
    ($a:lifetime OptFloat64) => { Option<f64> };
    ($a:lifetime Bool) => { bool };
}

/// A column's value, of the field that holds it.
macro_rules! read {
    (Text $value:ident) => {
        $value.text()?
    };
    (OptText $value:ident) => {
        Some($value.text()?)
    };
    (Word $value:ident) => {
        $value.text()?
    };
    (OptWord $value:ident) => {
        Some($value.text()?)
    };
    (Time $value:ident) => {
        $value.int64()?
    };
    (OptTime $value:ident) => {
        Some($value.int64()?)
    };
    (Int64 $value:ident) => {
        $value.int64()?
    };
    (OptInt64 $value:ident) => {
        Some($value.int64()?)
    };
    (Int32 $value:ident) => {
        $value.int32()?
    };
    (OptInt32 $value:ident) => {
        Some($value.int32()?)
    };
    (OptFloat64 $value:ident) => {
        Some($value.float64()?)
    };
    (Bool $value:ident) => {
        $value.boolean()?
    };
}

/// A column's value, of the row that holds it.
macro_rules! lend {
    (Text $row:ident $name:ident) => {
        $row.$name.as_str()
    };
    (OptText $row:ident $name:ident) => {
        $row.$name.as_deref()
    };
    (Word $row:ident $name:ident) => {
        $row.$name.as_str()
    };
    (OptWord $row:ident $name:ident) => {
        $row.$name.as_deref()
    };
    ($kind:ident $row:ident $name:ident) => {
        $row.$name
    };
}

/// The view of a row type.
macro_rules! view {
    ($row:ident $($(#[$doc:meta])+ $tag:literal $name:ident: $kind:ident $([$unit:literal])?,)+) => {
        #[doc = concat!("A [`", stringify!($row), "`] where it lies.")]
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct View<'a> {
            $($(#[$doc])+ pub $name: $crate::table::view::borrowed!('a $kind),)+
        }

        impl<'a> View<'a> {
            #[doc = concat!("The [`", stringify!($row), "`] in an encoded message. Fields of a newer version are passed over.")]
            ///
            /// # Errors
            /// The message holds no such row.
            pub fn decode(message: &'a [u8]) -> Result<Self, $crate::wire::Malformed> {
                let mut row = Self::default();
                let mut fields = $crate::wire::Fields::of(message);
                while let Some((number, value)) = fields.next_field()? {
                    match number {
                        $($tag => row.$name = $crate::table::view::read!($kind value),)+
                        _ => {}
                    }
                }
                Ok(row)
            }
        }

        impl<'a> From<&'a $row> for View<'a> {
            fn from(row: &'a $row) -> Self {
                Self { $($name: $crate::table::view::lend!($kind row $name),)+ }
            }
        }
    };
}

pub(super) use {borrowed, lend, read, view};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use crate::table::{Event, EventView, Session, SessionView};

    proptest! {
        #[test]
        fn a_view_shows_what_the_message_holds(
            text in ".{0,200}",
            name in proptest::option::of("[a-z]{0,9}"),
            number: i64,
            small: i32,
            maybe: Option<i64>,
            port: Option<i32>,
            value: Option<f64>,
        ) {
            prop_assume!(value.is_none_or(|value| !value.is_nan()));
            let session = Session {
                node: text.clone(),
                customer: name.clone(),
                session_no: number,
                client_port: small,
                ts_connected: maybe,
                egress_port: port,
                seq: maybe,
                attributes: Some(text.clone()),
                ..Session::default()
            };
            let bytes = session.encode_to_vec();
            prop_assert_eq!(SessionView::decode(&bytes), Ok(SessionView::from(&session)));
            let event = Event { message: text, service: name, ts: number, value, ..Event::default() };
            let bytes = event.encode_to_vec();
            prop_assert_eq!(EventView::decode(&bytes), Ok(EventView::from(&event)));
        }

        #[test]
        fn what_prost_refuses_or_reads_a_view_does_alike(noise in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (message, view) = (Session::decode(&noise[..]), SessionView::decode(&noise));
            // Groups alone are passed over by one and refused by the other.
            if let Ok(view) = view {
                let message = message.unwrap();
                prop_assert_eq!(view, SessionView::from(&message));
            }
        }
    }
}
