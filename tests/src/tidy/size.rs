//! How long files, lines and functions are.

use super::SourceFile;
use anyhow::{Context as _, Result};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// Lines of the file before its unit tests.
pub fn production_line_count(file: &SourceFile) -> usize {
    file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

/// Lines with more than `max` characters, as `path:line: count`.
pub fn long_lines(file: &SourceFile, max: usize) -> Vec<String> {
    let numbered = file.text.lines().zip(1..);
    numbered
        .map(|(line, number)| (line.chars().count(), number))
        .filter(|(count, _)| *count > max)
        .map(|(count, number)| format!("{}:{number}: {count} columns", file.path))
        .collect()
}

/// Functions with more than `max` lines from `fn` to the closing brace, as `path:line: name count`.
///
/// # Errors
/// The file is not Rust.
pub fn long_functions(file: &SourceFile, max: usize) -> Result<Vec<String>> {
    let tree = syn::parse_file(&file.text).with_context(|| format!("parse {}", file.path))?;
    let mut finder = Finder { path: &file.path, max, found: Vec::new() };
    finder.visit_file(&tree);
    Ok(finder.found)
}

struct Finder<'a> {
    path: &'a str,
    max: usize,
    found: Vec<String>,
}

impl Finder<'_> {
    fn check(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let count = block.span().end().line + 1 - first;
        if count > self.max {
            self.found.push(format!("{}:{first}: {} {count} lines", self.path, signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.check(&node.sig, &node.block);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.check(&node.sig, &node.block);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.check(&node.sig, block);
        }
        visit::visit_trait_item_fn(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile { path: "a.rs".into(), text: text.into() }
    }

    #[test]
    fn unit_tests_are_not_production_code() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(production_line_count(&file(text)), 2);
    }

    #[test]
    fn a_line_is_measured_in_characters() {
        assert_eq!(long_lines(&file("äöü\nabcd\n"), 3), ["a.rs:2: 4 columns"]);
    }

    #[test]
    fn functions_and_methods_are_measured() {
        let text = "\nfn a() {\n}\nstruct S;\nimpl S {\n    fn b() {\n        a();\n    }\n}\n";
        assert_eq!(long_functions(&file(text), 2).unwrap(), ["a.rs:6: b 3 lines"]);
    }
}
