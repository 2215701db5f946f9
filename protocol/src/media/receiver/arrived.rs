//! What arrived of a track, for reports.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::limits;
use crate::media::rtp::Extend;

#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) ssrc: u32,
    extend: Extend,
    /// The first that the next report tells: it repeats what the last one told first.
    again: Option<i64>,
    /// The first that no report has told.
    begin: i64,
    arrived: BTreeMap<i64, Instant>,
    /// Whether anything arrived since the last report.
    news: bool,
}

impl Track {
    pub(super) fn arrive(&mut self, ssrc: u32, sequence: u16, at: Instant) -> i64 {
        self.ssrc = ssrc;
        let extended = self.extend.extend(sequence);
        if self.again.is_none() {
            (self.again, self.begin) = (Some(extended), extended);
        }
        self.arrived.entry(extended).or_insert(at);
        self.news = true;
        while self.arrived.len() > limits::REPORT_PACKETS_MAX {
            self.arrived.pop_first();
        }
        extended
    }

    /// What arrived in this interval and the one before, gaps included, at most what one
    /// report holds: a report that is lost takes nothing with it, and what came behind its
    /// number is told by the next.
    pub(super) fn report(&mut self) -> Option<(u32, u16, Vec<Option<Instant>>)> {
        let again = self.again.filter(|_| self.news)?;
        self.news = false;
        self.arrived = self.arrived.split_off(&again);
        let last = *self.arrived.last_key_value()?.0;
        let span = i64::try_from(limits::REPORT_PACKETS_MAX).unwrap_or(256);
        let first = again.max(last - span + 1);
        let packets = (first..=last)
            .map(|sequence| self.arrived.get(&sequence).copied())
            .collect();
        self.again = Some(self.begin);
        self.begin = self.begin.max(last + 1);
        Some((
            self.ssrc,
            u16::try_from(first & 0xffff).unwrap_or(0),
            packets,
        ))
    }

    /// The extended number of a copy, which is no arrival.
    pub(super) fn again(&mut self, sequence: u16) -> i64 {
        self.extend.extend(sequence)
    }
}
