"""Seeded defects of the engine, and the tests that have to notice them.

Each is an edit of one file: a text that occurs there exactly once, what takes its place, and the
test that has to fail then. The edits are made in a copy of the tracked files below target/; the
checkout is never touched. The copy has a target directory of its own, kept for the next run: in the
checkout's, cargo would take the one for the other.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
COPY = TARGET / "mutations" / "source"
BUILD = TARGET / "mutations" / "target"
# Enough to notice what the named tests are for; the deep runs are for the unknown.
SEQUENCES = "4000"
LIMIT_SECONDS = 900

ENGINE = "volume/src/engine/"


class Mutation(NamedTuple):
    """A defect: its name, the file, the edits, and the test that has to fail."""

    name: str
    file: str
    edits: list
    test: str


SYNC = """        if let Err(error) = dat.sync_data() {
            return Err(self.fail("a sync of the volume file", &error));
        }
"""
INDEX = """        self.index(state, batch);
        Ok(())
"""
WRITE = "        match lay(&*dat, &records, zeros, start) {\n"
CRASHES = "model::a_crash_before_or_after_any_sync_loses_nothing_that_was_answered"
SEQUENCE = "model::a_volume_agrees_with_the_reference_whatever_happens_to_its_disk"

MUTATIONS = [
    Mutation(
        "take a torn batch for damage",
        ENGINE + "search.rs",
        [("Run::SameBatch => return Ok(Outcome::Nothing),", "Run::SameBatch => return Ok(Outcome::Found(start)),")],
        CRASHES,
    ),
    Mutation(
        "let a lost tail pass",
        ENGINE + "lost_tail.rs",
        [("        Ok(is_lost && self.is_of_this_file()?)", "        Ok(is_lost && !self.is_of_this_file()?)")],
        "lost_tail::an_end_that_was_acknowledged_and_is_gone_is_damage_wherever_it_was_cut",
    ),
    Mutation(
        "rise above any stamp of another program",
        ENGINE + "foreign_stamp.rs",
        [("const MAX_AHEAD_NS: u64 = 3600 * 1_000_000_000;", "const MAX_AHEAD_NS: u64 = u64::MAX;")],
        "foreign_stamps::a_stamp_of_another_program_far_ahead_is_not_passed_on",
    ),
    Mutation(
        "take a lost record for a torn batch",
        ENGINE + "search.rs",
        [("Run::LaterBatch => return Ok(Outcome::Found(start)),", "Run::LaterBatch => return Ok(Outcome::Nothing),")],
        "recovery::a_lost_record_is_damage_when_a_later_batch_reached_the_disk",
    ),
    Mutation(
        "stamp every write as the first of its batch",
        ENGINE + "append.rs",
        [("{ BatchPlace::First } else { BatchPlace::Later }", "{ BatchPlace::First } else { BatchPlace::First }")],
        CRASHES,
    ),
    Mutation(
        "swap before the copy is verified",
        ENGINE + "compaction/copy.rs",
        [("        self.sync()?;\n        self.read_back(steps.pace)\n", "        self.sync()\n            .map_err(CompactionError::from)\n")],
        "compaction::a_spoilt_copy_is_not_swapped_in",
    ),
    Mutation(
        "let the sidecar speak of one file only",
        ENGINE + "compaction/run.rs",
        [("        state.next = Some(copy.generation());\n", "        drop(copy.generation());\n")],
        "compaction::a_crash_at_any_operation_leaves_the_old_files_or_the_new_ones",
    ),
    Mutation(
        "forget the last round",
        ENGINE + "compaction/run.rs",
        [("        copy.round(Round::Later, &mut AtOnce)?;\n        self.compare_counts(&mut copy)?;\n", "")],
        "compaction::what_is_written_and_deleted_while_it_copies_stands",
    ),
    Mutation(
        "leave a needle behind that cannot be read",
        ENGINE + "compaction/bad_records.rs",
        [("Some(entry) if entry.size != RowSize::Tombstone =>", "Some(entry) if entry.size == RowSize::Live(u32::MAX) =>")],
        "bad_records::a_needle_that_the_disk_does_not_give_ends_it_and_is_named",
    ),
    Mutation(
        "leave the bad record of a delete behind in any round",
        ENGINE + "compaction/bad_records.rs",
        [("round == Round::First && ", "let _ = round; ")],
        "bad_records::the_bad_record_of_a_delete_of_just_now_is_not_dropped_before_the_next_time",
    ),
    Mutation(
        "take what was not read for bytes of the file",
        ENGINE + "scan.rs",
        [(".inspect_err(|_| self.window.clear())", "")],
        "bad_records::garbage_whose_length_is_bad_and_that_the_disk_does_not_give_is_passed_by",
    ),
    Mutation(
        "delete what expired by a clock that is not believed",
        ENGINE + "compaction/copy.rs",
        [("self.volume.secs_to_delete_by(ttl).is_some_and(is_over)", "self.volume.secs_to_delete_by(ttl).is_none_or(is_over)")],
        "compaction::a_clock_that_is_not_believed_hides_what_expired_by_it_and_deletes_nothing",
    ),
    Mutation(
        "end a volume by a clock that is not believed",
        ENGINE + "expiry.rs",
        [("self.secs_to_delete_by(lifetime).is_some_and(is_over)", "is_over(self.clock().wall_secs())")],
        "expiry::a_volume_is_not_over_by_a_clock_that_is_not_believed",
    ),
    Mutation(
        "delete an expired needle whatever was written over it",
        ENGINE + "append.rs",
        [("existing.filter(|existing| existing.ts == written)", "existing.filter(|existing| existing.ts >= written)")],
        "compaction::a_needle_that_is_not_the_one_that_was_looked_at_does_not_expire",
    ),
    Mutation(
        "reuse a stamp",
        ENGINE + "stamp.rs",
        [("        self.last.fetch_max(ts.0, Ordering::Relaxed);\n", "        let _ = ts;\n")],
        "compaction::stamps_stay_above_that_of_a_dropped_tombstone",
    ),
    Mutation(
        "leave the zeros at rest",
        ENGINE + "checkpoint.rs",
        [("self.trim().and(self.checkpoint())", "self.checkpoint()")],
        "recovery::zeros_behind_the_last_record_come_with_writing_and_go_with_rest",
    ),
    Mutation("skip the sync", ENGINE + "append.rs", [(SYNC, "")], CRASHES),
    Mutation(
        "answer before the sync",
        ENGINE + "append.rs",
        [(SYNC, ""), (WRITE, SYNC + WRITE)],
        CRASHES,
    ),
    Mutation(
        "answer whatever the sync says",
        ENGINE + "append.rs",
        [('            return Err(self.fail("a sync of the volume file", &error));\n', "            drop(error);\n")],
        "faults::a_failed_sync_is_never_retried",
    ),
    Mutation(
        "retry a failed sync",
        ENGINE + "append.rs",
        [(SYNC, SYNC.replace("dat.sync_data()", "dat.sync_data().or_else(|_| dat.sync_data())"))],
        "faults::a_failed_sync_is_never_retried",
    ),
    Mutation(
        "make visible before the sync",
        ENGINE + "append.rs",
        [(SYNC, INDEX.splitlines(True)[0] + SYNC), (INDEX, "        Ok(())\n")],
        "faults::a_failed_sync_is_never_retried",
    ),
    Mutation(
        "forget to undo the map for a failed batch",
        ENGINE + "append.rs",
        [(WRITE, INDEX.splitlines(True)[0] + WRITE), (INDEX, "        Ok(())\n")],
        "faults::a_full_disk_is_taken_back_and_the_volume_goes_on",
    ),
    Mutation(
        "leave a torn write in the file",
        ENGINE + "append.rs",
        [("dat.truncate(start).and_then(|()| dat.sync_data())", "dat.sync_data()")],
        "faults::a_full_disk_is_taken_back_and_the_volume_goes_on",
    ),
    Mutation(
        "build answers on a failed batch",
        ENGINE + "append.rs",
        [("planned.chain(batch.leaning.iter().copied())", "planned")],
        "faults::what_a_failed_batch_did_not_do_no_answer_of_it_builds_on",
    ),
    Mutation(
        "sync an index again whose sync failed",
        ENGINE + "checkpoint.rs",
        [
            (
                """it is rebuilt at the next start");
            state.idx_is_broken = true;
            self.mark_failed("a sync of the index file", error);
        })""",
                """it is rebuilt at the next start");
        })""",
            )
        ],
        "faults::an_index_whose_sync_failed_is_not_synced_again_but_made_anew",
    ),
    Mutation(
        "trust the index",
        ENGINE + "recovery.rs",
        [("if (len, crc) != (checkpoint.idx_len, checkpoint.idx_crc32c) {", "let _ = crc;\n        if len != checkpoint.idx_len {")],
        "recovery::a_lost_cut_or_scribbled_index_is_made_anew_from_the_volume_file",
    ),
    Mutation(
        "trust an index that ends with the volume file",
        ENGINE + "recovery.rs",
        [
            (
                "        let Some(memory) = self.load_checkpoint(checkpoint).map_err(at(&idx_path))? else {",
                """        if self.ends_together(self.width).map_err(at(&idx_path))? {
            return self.load_foreign(trash, now_ns);
        }
        let Some(memory) = self.load_checkpoint(checkpoint).map_err(at(&idx_path))? else {""",
            )
        ],
        "recovery::a_lost_cut_or_scribbled_index_is_made_anew_from_the_volume_file",
    ),
    Mutation(
        "believe the page cache at start",
        ENGINE + "recovery.rs",
        [("        self.dat.forget_cached(start..self.dat_len)\n", "        let _ = start;\n        Ok(())\n")],
        SEQUENCE,
    ),
    Mutation(
        "read at start what was never synced",
        ENGINE + "recovery.rs",
        [
            ("        self.dat.sync_data()?;\n        let start", "        let start"),
            ("        self.dat.forget_cached(start..self.dat_len)\n", "        let _ = start;\n        Ok(())\n"),
        ],
        SEQUENCE,
    ),
    Mutation(
        "truncate in the middle",
        ENGINE + "damage.rs",
        [
            (
                "if may_be_torn && !self.was_durable() && !self.is_indexed()? {",
                "if !self.was_durable() {",
            )
        ],
        "recovery::a_batch_torn_behind_damage_does_not_take_what_lies_between",
    ),
    Mutation(
        "serve records that lie in the data of a torn needle",
        ENGINE + "damage.rs",
        [("Outcome::Found(offset) if is_own => Resume::Doubtful(offset),", "Outcome::Found(offset) if is_own => Resume::At(offset),")],
        "recovery::records_within_a_torn_needle_replace_nothing",
    ),
    Mutation(
        "serve records that a checkpoint does not count",
        ENGINE + "search.rs",
        [("return match found.checked_sub(to_come) {", "return match found.checked_sub(to_come.max(found)) {")],
        "planted::a_record_that_ends_with_the_needle_around_it_is_one_too_many",
    ),
    Mutation(
        "search for ever",
        ENGINE + "search.rs",
        [("const WORK_PER_BYTE: u64 = 16;", "const WORK_PER_BYTE: u64 = 80;")],
        "planted::headers_that_claim_much_are_not_summed_for_ever_and_nothing_is_cut",
    ),
    Mutation(
        "cut off what a search did not come to",
        ENGINE + "damage.rs",
        [("Outcome::Unknown => Resume::Unsearched,", "Outcome::Unknown => Resume::Never,")],
        "planted::headers_that_claim_much_are_not_summed_for_ever_and_nothing_is_cut",
    ),
    Mutation(
        "truncate what the checkpoint covers",
        ENGINE + "damage.rs",
        [(" && !self.was_durable()", "")],
        "damage::covered_last_records_that_rot_are_damage_without_their_rows_as_well",
    ),
    Mutation(
        "truncate what the index has a row for",
        ENGINE + "damage.rs",
        [(" && !self.is_indexed()?", "")],
        "lost_tail::a_torn_record_with_a_row_is_damage_although_an_earlier_row_has_a_flipped_bit",
    ),
    Mutation(
        "truncate what another program wrote",
        ENGINE + "recovery.rs",
        [("Verdict::TornTail if bad_at < walk.own_from", "Verdict::TornTail if walk.own_from == FOREIGN")],
        "recovery::what_was_there_before_a_volume_was_taken_in_is_not_cut_at_a_later_start",
    ),
    Mutation(
        "do not check the checksum",
        "volume/src/format/needle/decode.rs",
        [("        if !tail.checksum_matches(computed) {\n", "        if false {\n")],
        "damage::a_flipped_bit_under_a_running_server_is_an_error_and_not_other_bytes",
    ),
    Mutation(
        "do not check the padding",
        "volume/src/format/needle/decode.rs",
        [("if sums.starts_with(padding) {", "if sums.starts_with(padding) || true {")],
        "damage::a_flipped_bit_under_a_running_server_is_an_error_and_not_other_bytes",
    ),
    Mutation(
        "believe a damaged superblock",
        ENGINE + "open.rs",
        [("if let Some(what) = contradiction(&files.superblock, files.dat_len, &mut sidecar) {", "if let Some(what) = contradiction(&files.superblock, files.dat_len, &mut sidecar).filter(|_| false) {")],
        "damage::a_superblock_that_its_sidecar_contradicts_is_not_believed",
    ),
    Mutation(
        "no directory sync after creating a volume",
        ENGINE + "open.rs",
        [("        disk.sync_dir(dir.path())?;\n", "")],
        CRASHES,
    ),
    Mutation(
        "no directory sync after replacing a file",
        "volume/src/disk/file.rs",
        [("    renamed?;\n    disk.sync_dir(parent(path))\n", "    renamed\n")],
        "faults::a_sidecar_whose_replacement_failed_is_written_again",
    ),
    Mutation(
        "rename before the sync",
        "volume/src/disk/file.rs",
        [("&mut [IoSlice::new(contents)], 0)?;\n    file.sync_data()\n", "&mut [IoSlice::new(contents)], 0)\n")],
        SEQUENCE,
    ),
    Mutation(
        "leave strays",
        ENGINE + "open.rs",
        [("        remove_strays(dir, name);\n", "")],
        "recovery::what_a_crash_left_beside_the_files_is_gone_after_the_next_start",
    ),
]


def copy_tree():
    """The tracked files as they are in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    shutil.rmtree(COPY, ignore_errors=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, COPY / name)


def run_tests(names):
    """Those of the named tests that fail, and what the compiler said if it did not build them."""
    command = ["cargo", "test", "--locked", "-p", "dulse-volume", "--test", "engine", "--"]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILD), DULSE_SEQUENCES=SEQUENCES)
    environment["RUST_BACKTRACE"] = "0"
    ran = subprocess.run(
        command + ["--exact"] + sorted(names),
        cwd=COPY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    if "running " not in ran.stdout:
        return [], ran.stderr
    results = dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", ran.stdout, re.MULTILINE))
    missing = [name for name in names if name not in results]
    return [name for name, result in results.items() if result == "FAILED"] + missing, None


def attempt(mutation):
    """What is wrong with a mutation's outcome; nothing if the test noticed it."""
    path = COPY / mutation.file
    sound = path.read_text()
    text = sound
    for old, new in mutation.edits:
        if text.count(old) != 1:
            return f"the edit no longer applies to {mutation.file}"
        text = text.replace(old, new)
    path.write_text(text)
    try:
        failed, errors = run_tests({mutation.test})
    finally:
        path.write_text(sound)
    if errors is not None:
        return f"does not compile:\n{errors[-2000:]}"
    if not failed:
        return f"{mutation.test} did not notice"
    print(f"caught    {mutation.name}: {mutation.test}", flush=True)
    return None


def main(names):
    known = {mutation.name for mutation in MUTATIONS}
    if unknown := set(names) - known:
        print(f"no such mutation: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    copy_tree()
    failed, errors = run_tests({mutation.test for mutation in MUTATIONS})
    if failed or errors is not None:
        print(f"without any defect: {failed or errors[-2000:]}", file=sys.stderr)
        return 1
    wanted = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    survivors = 0
    for mutation in wanted:
        if reason := attempt(mutation):
            survivors += 1
            print(f"SURVIVED  {mutation.name}: {reason}", flush=True)
    print(f"{len(wanted) - survivors} of {len(wanted)} defects were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
