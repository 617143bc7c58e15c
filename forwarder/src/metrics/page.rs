//! Writing metrics one after the other, each under its name in the list of all.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::families::FAMILIES;

/// Values of labels, and the figure.
pub(super) type Series = (Vec<String>, u64);

/// What is being written.
pub(super) struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// Begins a metric of the list.
    fn begin(&mut self, name: &str) -> Result<MetricEncoder<'_>, fmt::Error> {
        let family = FAMILIES.iter().find(|family| family.name == name).ok_or(fmt::Error)?;
        let bare = match family.kind {
            MetricType::Counter => name.trim_end_matches("_total"),
            MetricType::Info => name.trim_end_matches("_info"),
            _ => name,
        };
        // It lives for as long as the list.
        let bare: &'static str = &family.name[..bare.len()];
        self.encoder.encode_descriptor(bare, family.help, None, family.kind)
    }

    pub(super) fn info(&mut self, name: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.begin(name)?.encode_info(&labels)
    }

    pub(super) fn one_counter(&mut self, name: &str, value: u64) -> fmt::Result {
        self.begin(name)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    pub(super) fn one_gauge(&mut self, name: &str, value: u64) -> fmt::Result {
        self.begin(name)?.encode_gauge(&value)
    }

    /// A counter with one label.
    pub(super) fn each(&mut self, name: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let series = values.iter().map(|(text, value)| (vec![(*text).to_owned()], *value));
        self.counters(name, &[label], series.collect())
    }

    /// A counter of time.
    pub(super) fn seconds(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        time: Duration,
    ) -> fmt::Result {
        let mut metric = self.begin(name)?;
        let seconds = time.as_secs_f64();
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&seconds, None)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        labels: &[&str],
        all: Vec<Series>,
    ) -> fmt::Result {
        let mut metric = self.begin(name)?;
        for (values, figure) in all {
            let pairs = pairs(labels, &values);
            let mut one = metric.encode_family(&pairs)?;
            one.encode_counter::<NoLabelSet, _, f64>(&figure, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges(&mut self, name: &str, labels: &[&str], all: Vec<Series>) -> fmt::Result {
        let mut metric = self.begin(name)?;
        for (values, figure) in all {
            let pairs = pairs(labels, &values);
            metric.encode_family(&pairs)?.encode_gauge(&figure)?;
        }
        Ok(())
    }

    /// A histogram for each service.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        all: impl Iterator<Item = (String, (Vec<(f64, u64)>, f64))>,
    ) -> fmt::Result {
        let mut metric = self.begin(name)?;
        for (service, (buckets, sum)) in all {
            let count = buckets.iter().map(|(_, count)| count).sum();
            let pairs = vec![("service", service.as_str())];
            let mut one = metric.encode_family(&pairs)?;
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn pairs<'a>(labels: &[&'a str], values: &'a [String]) -> Vec<(&'a str, &'a str)> {
    labels.iter().copied().zip(values.iter().map(String::as_str)).collect()
}
