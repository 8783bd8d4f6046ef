//! A report written through a buffer, to its last byte.

use std::io::{self, BufWriter, Write};

/// Has `render` write a report to `out`, which may be a bare file: it gets few, long pieces. What
/// `out` keeps back is flushed, for a writer that is dropped with a part of the report would
/// drop the error that this part meets.
pub(crate) fn whole<W: Write>(
    out: W,
    render: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    if let Err(error) = render(&mut out) {
        // What is left of a report that failed is not tried again.
        drop(out.into_parts());
        return Err(error);
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::report::{Dump, Stats, Weight};

    /// Takes so many bytes, and says how often it was called.
    struct Disk {
        room: usize,
        calls: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every report, each to a disk with that much room behind a buffer of the caller's.
    fn reports(room: usize) -> Vec<io::Result<()>> {
        let profile = Profile::of_sites(&[(&[0x11, 2], 300, 300), (&[0x21, 2], 30, 30)]);
        let other = Profile::of_sites(&[(&[0x11, 2], 900, 900)]);
        let (stats, weight) = (Stats::default(), Weight::AllocatedBytes);
        let diff = profile.diff(&other, weight);
        let dump = Dump { stats: stats.clone(), profile: profile.clone() };
        let out = || BufWriter::with_capacity(1 << 20, Disk { room, calls: 0 });
        let mut results = vec![profile.write_html(&stats, out())];
        results.extend([
            profile.write_dhat(out()),
            profile.write_speedscope(out()),
            profile.write_folded(weight, out()),
            diff.write_folded(out()),
            dump.write_json(out()),
        ]);
        #[cfg(feature = "flamegraph")]
        results.extend([
            profile.write_flamegraph(weight, out()),
            profile.write_icicle(weight, out()),
            diff.write_flamegraph(out()),
        ]);
        #[cfg(feature = "pprof")]
        results.push(profile.write_pprof(out()));
        results
    }

    #[test]
    fn a_report_that_a_buffer_of_the_callers_keeps_back_is_an_error_where_the_disk_is_full() {
        for (at, result) in reports(0).into_iter().enumerate() {
            let kind = result.err().map(|error| error.kind());
            assert_eq!(kind, Some(io::ErrorKind::StorageFull), "report {at}");
        }
        assert!(reports(1 << 24).iter().all(Result::is_ok));
    }

    #[test]
    fn a_bare_file_is_written_in_long_pieces() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 300, 300), (&[0x21, 2], 30, 30)]);
        let mut disk = Disk { room: 1 << 24, calls: 0 };
        profile.write_html(&Stats::default(), &mut disk).unwrap();
        let pieces = ((1 << 24) - disk.room) / 4096;
        assert!(disk.calls <= pieces + 2, "{} calls", disk.calls);
    }
}
