//! The outer fences of CONTRIBUTING.md, over the whole repository.

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate_tests::tidy::{
    IMPORT_RULES, NOT_REACHED, REACHED, Reached, SourceFile, all_reasons, banned_words,
    dependencies_without_reason, files_below, forbidden_imports, long_functions, long_lines,
    production_line_count, test_only_paths,
};

const CRATES: &[&str] = &["dataplane", "control", "bench", "tests"];
const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(extension: &str) -> Result<Vec<SourceFile>> {
    let below = |folder: &&str| files_below(&root(), folder, extension);
    let folders: Result<Vec<_>> = CRATES.iter().map(below).collect();
    Ok(folders?.concat())
}

/// The Rust files that are built into the programs and libraries.
fn production() -> Result<Vec<SourceFile>> {
    let files = sources("rs")?;
    let for_tests = test_only_paths(&files)?;
    Ok(files.into_iter().filter(|file| !for_tests.contains(&file.path)).collect())
}

/// The limit of a file's production code: two files that everybody reads have their own.
fn file_lines_max(path: &str) -> usize {
    match path {
        "dataplane/src/worker.rs" => 200,
        "control/src/main.rs" => 100,
        _ => FILE_LINES_MAX,
    }
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn the_repository_is_seen() -> Result<()> {
    let files = sources("rs")?;
    for expected in ["dataplane/src/lib.rs", "control/src/main.rs", "tests/tests/tidy.rs"] {
        assert!(files.iter().any(|f| f.path == expected), "{expected} is missing");
    }
    Ok(())
}

#[test]
fn files_are_short() -> Result<()> {
    let describe = |f: &SourceFile| format!("{}: {} lines", f.path, production_line_count(f));
    let files = [production()?, sources("c")?].concat();
    let is_long = |f: &&SourceFile| production_line_count(f) > file_lines_max(&f.path);
    let found: Vec<_> = files.iter().filter(is_long).map(describe).collect();
    assert_none(&found, "too many lines of production code");
    Ok(())
}

#[test]
fn lines_are_short() -> Result<()> {
    let files = [sources("rs")?, sources("c")?, sources("h")?].concat();
    let found: Vec<_> = files.iter().flat_map(|f| long_lines(f, LINE_COLUMNS_MAX)).collect();
    assert_none(&found, "too long lines");
    Ok(())
}

#[test]
fn functions_are_short() -> Result<()> {
    let long = |f: &SourceFile| long_functions(f, FUNCTION_LINES_MAX);
    let found: Result<Vec<_>> = sources("rs")?.iter().map(long).collect();
    assert_none(&found?.concat(), "too long functions");
    Ok(())
}

#[test]
fn imports_run_one_way() -> Result<()> {
    let forbidden = |f: &SourceFile| forbidden_imports(f, IMPORT_RULES);
    let found: Result<Vec<_>> = production()?.iter().map(forbidden).collect();
    assert_none(&found?.concat(), "imports against the arrows of docs/ARCHITECTURE.md");
    Ok(())
}

#[test]
fn nothing_is_left_unfinished() -> Result<()> {
    let files = [sources("rs")?, sources("c")?, sources("h")?].concat();
    let found: Vec<_> = files.iter().flat_map(banned_words).collect();
    assert_none(&found, "unfinished work");
    Ok(())
}

#[test]
fn each_dependency_has_its_reason() -> Result<()> {
    let root = fs::read_to_string(root().join("Cargo.toml"))?;
    let without = |name: &&str| unexplained(&format!("{name}/Cargo.toml"), &root);
    let found: Result<Vec<_>> = CRATES.iter().map(without).collect();
    assert_none(&found?.concat(), "dependencies without a reason");
    Ok(())
}

fn unexplained(path: &str, workspace: &str) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root().join(path))?;
    let found = dependencies_without_reason(&manifest, workspace);
    Ok(found.into_iter().map(|dependency| format!("{path}: {dependency}")).collect())
}

#[test]
fn each_reason_is_reached_by_a_test_and_has_a_next_step() -> Result<()> {
    let files = sources("rs")?;
    let is_there = |reached: &Reached| {
        let mut texts = files.iter().filter(|f| f.path == reached.file).map(|f| &f.text);
        texts.any(|text| text.contains(&format!("fn {}(", reached.test)))
    };
    let gone = REACHED.iter().filter(|reached| !is_there(reached));
    let mut found: Vec<_> = gone.map(|r| format!("{}: no test {}", r.file, r.test)).collect();
    let reasons = all_reasons();
    for (verdict, reason, kind, next_step) in &reasons {
        let reached = REACHED.iter().any(|r| (r.verdict, r.reason) == (verdict, reason));
        let is_known = NOT_REACHED.iter().any(|(v, r, _)| (v, r) == (verdict, reason));
        if reached == is_known {
            found.push(format!("{verdict} {reason} stands in neither table, or in both"));
        }
        if kind.is_empty() || next_step.is_empty() {
            found.push(format!("{verdict} {reason} has no kind or next step"));
        }
    }
    let count = REACHED.len() + NOT_REACHED.len();
    if count != reasons.len() {
        found.push(format!("{count} in the tables, {} reasons", reasons.len()));
    }
    assert_none(&found, "reasons and their tests");
    Ok(())
}

#[test]
fn lib_files_hold_no_logic() -> Result<()> {
    let files = sources("rs")?;
    let libs = files.iter().filter(|f| f.path.ends_with("/src/lib.rs"));
    let found: Result<Vec<_>> = libs.map(|f| long_functions(f, 0)).collect();
    assert_none(&found?.concat(), "functions in lib.rs");
    Ok(())
}
