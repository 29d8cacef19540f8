//! Checking an open volume: its memory against its files.

use std::{io, sync::atomic::Ordering};

use super::{
    finding::{Finding, Findings},
    own_files::{check_sidecar, stray_names},
    survey::{Subject, Survey, survey},
};
use crate::{
    disk::{read_exact_at, read_small_file},
    engine::{
        checkpoint::WriteState,
        fill::end_of_data,
        needle_map::NeedleMap,
        search::Budget,
        sidecar::{Found, Sidecar},
        volume::Volume,
    },
    format::{SUPERBLOCK_LEN, Superblock},
};

impl Volume {
    /// Reads all of the volume and holds file, index, sidecar, map and counters against each other.
    /// Writes wait until it is done.
    pub fn check(&self) -> io::Result<Findings> {
        let state = self.lock_writes();
        let (dat, own_from, revision) = {
            let snapshot = self.snapshot();
            (snapshot.dat.clone(), snapshot.own_from, snapshot.revision)
        };
        let dat_len = self.dat_len.load(Ordering::Acquire);
        let expected = Superblock { compaction_revision: revision, ..self.superblock };
        let found = dat.len()?;
        let subject = Subject {
            dat: &*dat,
            dat_len: dat_len.min(found),
            idx: state.idx.file(),
            superblock: expected,
            width: self.width,
            own_from: Some(own_from),
            checkpoint: Some(state.checkpoint),
        };
        let mut survey = survey(&subject, Budget::new(None), &mut |_| {})?;
        // Behind the last record are zeros at most.
        let data_end = if found < dat_len { found } else { end_of_data(&*dat, dat_len, found)? };
        if data_end != dat_len {
            survey.findings.push(Finding::Length { kept: dat_len, found: data_end });
        }
        let mut superblock = [0; SUPERBLOCK_LEN];
        read_exact_at(&*dat, &mut superblock, 0)?;
        if superblock != expected.encode() {
            survey.findings.push(Finding::Superblock("is not what it was".to_owned()));
        }
        if self.failure.is_set() {
            survey.findings.push(Finding::Failed);
        }
        if !survey.is_damaged {
            self.check_memory(&mut survey);
        }
        self.check_sidecar(&state, &expected, dat_len, &mut survey.findings)?;
        self.check_strays(&mut survey.findings)?;
        Ok(survey.findings)
    }

    fn check_memory(&self, survey: &mut Survey) {
        self.check_bytes(survey);
        let snapshot = self.snapshot();
        compare_maps(&snapshot.map, &survey.map, &mut survey.findings);
        let (kept, found) = (*self.counters(), survey.counters);
        let findings = &mut survey.findings;
        findings.compare("live_needles", kept.live_needles, found.live_needles);
        findings.compare("live_bytes", kept.live_bytes, found.live_bytes);
        findings.compare("garbage_needles", kept.garbage_needles, found.garbage_needles);
        let is_ours = snapshot.own_from == self.superblock.first_needle_offset().as_bytes();
        // A stamp that was given and not written may be kept; one that was written must be.
        if is_ours && kept.max_ts < found.max_ts {
            findings.compare("max_ts", kept.max_ts.0, found.max_ts.0);
        }
    }

    /// What is reported as live, garbage and overhead is all of the volume, and what its records say.
    fn check_bytes(&self, survey: &mut Survey) {
        let report = self.report();
        let garbage = survey.record_bytes.saturating_sub(survey.counters.live_bytes);
        let overhead = report.size_bytes.saturating_sub(survey.record_bytes);
        survey.findings.compare("garbage_bytes", report.garbage_bytes, garbage);
        survey.findings.compare("overhead_bytes", report.overhead_bytes(), overhead);
        let sum = report.live_bytes + report.garbage_bytes + report.overhead_bytes();
        survey.findings.compare("live, garbage and overhead", sum, report.size_bytes);
    }

    fn check_sidecar(
        &self,
        state: &WriteState,
        superblock: &Superblock,
        dat_len: u64,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let bytes = read_small_file(&**self.dir.files(), &self.name.sidecar(self.dir.path()))?;
        let sidecar = match bytes.map_or(Found::Absent(None), |bytes| Sidecar::decode(&bytes)) {
            Found::Sidecar(sidecar) => {
                sidecar.speaking_of(superblock.compaction_revision).unwrap_or(*sidecar)
            }
            Found::Absent(reason) => {
                let reason = reason.unwrap_or_else(|| "is missing".to_owned());
                findings.push(Finding::Sidecar(format!("cannot be read: {reason}")));
                return Ok(());
            }
            Found::Newer(version) => {
                findings.push(Finding::Sidecar(format!("has the unknown format {version}")));
                return Ok(());
            }
        };
        check_sidecar(&sidecar, &self.name, superblock, dat_len, findings);
        let is_same = sidecar.checkpoint == state.checkpoint
            && sidecar.config == *self.config()
            && sidecar.own_from == self.snapshot().own_from
            && sidecar.cluster == self.cluster;
        if !is_same && !state.sidecar_is_unknown {
            findings.push(Finding::Sidecar("is not what the open volume wrote".to_owned()));
        }
        Ok(())
    }

    fn check_strays(&self, findings: &mut Findings) -> io::Result<()> {
        let entries = self.dir.files().list(self.dir.path())?;
        for stray in stray_names(&self.name) {
            if entries.iter().any(|entry| entry.name == stray) {
                findings.push(Finding::Stray(stray));
            }
        }
        Ok(())
    }
}

fn compare_maps(kept: &NeedleMap, found: &NeedleMap, findings: &mut Findings) {
    for (key, entry) in found.iter() {
        if kept.lookup(key) != Some(entry) {
            findings.push(Finding::Map { key });
        }
    }
    for (key, _) in kept.iter() {
        if found.lookup(key).is_none() {
            findings.push(Finding::Map { key });
        }
    }
}
