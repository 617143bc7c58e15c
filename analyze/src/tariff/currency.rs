//! Currencies by their ISO 4217 codes.

use std::fmt;

use crate::exact::{self, Exact};

/// Codes by the digits behind the point that their smallest coin has, as ISO 4217 lists them.
/// Units that nobody pays with (gold, test codes) are left out.
const CODES: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN \
         BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP \
         GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT \
         LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN \
         NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE \
         SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES \
         WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// A currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    places: u32,
}

impl Currency {
    /// The currency of an ISO 4217 code.
    pub fn of(code: &str) -> Option<Self> {
        CODES.iter().find_map(|(places, codes)| {
            let code = codes.split_ascii_whitespace().find(|known| *known == code)?;
            Some(Self { code, places: *places })
        })
    }

    /// The ISO 4217 code.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// Digits behind the point of the smallest coin: 2 for EUR, 0 for JPY, 3 for BHD.
    pub const fn places(self) -> u32 {
        self.places
    }

    /// The amount in whole smallest coins; half a coin goes away from zero.
    pub fn round(self, amount: &Exact) -> Exact {
        exact::rounded(amount, self.places)
    }

    /// The amount with all digits of the currency, without its code.
    pub fn text(self, amount: &Exact) -> String {
        exact::fixed(amount, self.places)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let amount = exact::decimal("1234.5675").unwrap();
        for (code, shown) in
            [("EUR", "1234.57"), ("JPY", "1235"), ("BHD", "1234.568"), ("CLF", "1234.5675")]
        {
            let currency = Currency::of(code).unwrap();
            assert_eq!(currency.text(&currency.round(&amount)), shown, "{code}");
        }
        for bad in ["", "eur", "EURO", "XAU", "EUR USD", "€"] {
            assert_eq!(Currency::of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn no_code_is_listed_twice() {
        let mut codes: Vec<&str> =
            CODES.iter().flat_map(|(_, codes)| codes.split_ascii_whitespace()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(codes.iter().all(|code| code.len() == 3));
    }
}
