//! Who is billed for a client's sessions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use forwarder_core::config::Customer;
use forwarder_core::matching::CustomerTable;
use schemas::vocab::CustomerName;

/// A customer and the id of its name.
#[derive(Debug, Clone)]
pub(crate) struct Billed {
    pub(crate) name: CustomerName,
    pub(crate) id: u32,
}

/// Whom a rule bills.
#[derive(Debug, Clone)]
pub(super) enum Billing {
    Nobody,
    Always(Arc<Billed>),
    ByNetwork(Arc<ByNetwork>),
}

/// A file of networks and customers.
#[derive(Debug)]
pub(super) struct ByNetwork {
    table: CustomerTable,
    /// By the table's index.
    billed: Vec<Arc<Billed>>,
}

impl Billing {
    /// Who is billed for this client's sessions, if anybody.
    pub(super) fn of(&self, client: IpAddr) -> Option<&Arc<Billed>> {
        match self {
            Self::Nobody => None,
            Self::Always(billed) => Some(billed),
            Self::ByNetwork(file) => {
                file.table.customer_of(client).map(|index| &file.billed[index])
            }
        }
    }
}

/// What the rules of one configuration bill by. A file that many rules name is there once.
#[derive(Debug, Default)]
pub(super) struct Billings<'a> {
    files: HashMap<&'a Path, Arc<ByNetwork>>,
}

impl<'a> Billings<'a> {
    /// Whom a rule with this customer bills. `name_id` registers a name.
    pub(super) fn of_rule<E>(
        &mut self,
        customer: Option<&'a Customer>,
        name_id: impl Fn(&str) -> Result<u32, E>,
    ) -> Result<Billing, E> {
        let billed = |name: &CustomerName| {
            Ok(Arc::new(Billed { name: name.clone(), id: name_id(name.as_str())? }))
        };
        let file = match customer {
            None => return Ok(Billing::Nobody),
            Some(Customer::Fixed(name)) => return Ok(Billing::Always(billed(name)?)),
            Some(Customer::ByNetwork(file)) => file,
        };
        if let Some(known) = self.files.get(file.path.as_path()) {
            return Ok(Billing::ByNetwork(Arc::clone(known)));
        }
        let table = CustomerTable::new(&file.networks);
        let billed = table.customers().iter().map(billed).collect::<Result<_, _>>()?;
        let new = Arc::new(ByNetwork { table, billed });
        self.files.insert(&file.path, Arc::clone(&new));
        Ok(Billing::ByNetwork(new))
    }
}
