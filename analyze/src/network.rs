//! `weir_network(address, v4, v6)` for SQL: the network of an address.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{Array, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use duckdb::vscalar::{ArrowFunctionSignature, VArrowScalar};
use ipnet::IpNet;

/// The SQL function. NULL and text that is no address give NULL.
#[derive(Debug)]
pub struct Network;

/// Its name in SQL.
pub const NAME: &str = "weir_network";

impl VArrowScalar for Network {
    type State = ();

    fn invoke((): &(), input: RecordBatch) -> Result<Arc<dyn Array>, Box<dyn Error>> {
        let addresses = input.column(0).as_string_opt::<i32>().ok_or("weir_network: no text")?;
        let prefix = |column: usize| {
            input
                .column(column)
                .as_primitive_opt::<Int32Type>()
                .ok_or("weir_network: no prefix length")
        };
        let (v4, v6) = (prefix(1)?, prefix(2)?);
        let networks = (0..input.num_rows()).map(|row| {
            let known = !addresses.is_null(row) && !v4.is_null(row) && !v6.is_null(row);
            known.then(|| network(addresses.value(row), v4.value(row), v6.value(row))).flatten()
        });
        Ok(Arc::new(networks.collect::<StringArray>()))
    }

    fn signatures() -> Vec<ArrowFunctionSignature> {
        vec![ArrowFunctionSignature::exact(
            vec![DataType::Utf8, DataType::Int32, DataType::Int32],
            DataType::Utf8,
        )]
    }
}

fn network(address: &str, v4: i32, v6: i32) -> Option<String> {
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { v4 } else { v6 };
    let network = IpNet::new(address, u8::try_from(bits).ok()?).ok()?;
    Some(network.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_the_prefix_of_its_family() {
        assert_eq!(network("10.1.2.3", 24, 56).as_deref(), Some("10.1.2.0/24"));
        assert_eq!(network("2001:db8:1:2ff::1", 24, 56).as_deref(), Some("2001:db8:1:200::/56"));
        assert_eq!(network("10.1.2.3", 0, 56).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(network("nobody", 24, 56), None);
        assert_eq!(network("10.1.2.3", 33, 56), None);
    }
}
