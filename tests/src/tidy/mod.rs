//! The rules of CONTRIBUTING.md that a machine can check: sizes, imports, words, reasons.

mod imports;
mod manifest;
mod reasons;
mod size;
mod source;

pub use imports::{IMPORT_RULES, ImportRule, forbidden_imports};
pub use manifest::dependencies_without_reason;
pub use reasons::{NOT_REACHED, REACHED, Reached, all_reasons};
pub use size::{long_functions, long_lines, production_line_count};
pub use source::{SourceFile, banned_words, files_below, test_only_paths};
