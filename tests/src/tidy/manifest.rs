//! Each direct dependency has its reason beside it.

/// Names of dependencies without a comment on their line. `root` is the workspace's Cargo.toml: a
/// dependency taken from there may have its reason there. Our own crates need none.
pub fn dependencies_without_reason(manifest: &str, root: &str) -> Vec<String> {
    let excused: Vec<&str> = dependencies(root).filter(|d| d.has_reason).map(|d| d.name).collect();
    dependencies(manifest)
        .filter(|d| !d.has_reason && !d.name.starts_with("tidegate-"))
        .filter(|d| !(d.is_inherited && excused.contains(&d.name)))
        .map(|d| d.name.to_owned())
        .collect()
}

struct Dependency<'a> {
    name: &'a str,
    has_reason: bool,
    is_inherited: bool,
}

fn dependencies(manifest: &str) -> impl Iterator<Item = Dependency<'_>> {
    let mut is_inside = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            is_inside = line.trim_end_matches(']').ends_with("dependencies");
            return None;
        }
        let (name, rest) = line.split_once('=')?;
        (is_inside && !line.starts_with('#')).then(|| parse(name.trim(), rest))
    })
}

fn parse<'a>(name: &'a str, rest: &str) -> Dependency<'a> {
    Dependency {
        name: name.strip_suffix(".workspace").unwrap_or(name),
        has_reason: rest.contains(" # "),
        is_inherited: name.ends_with(".workspace") || rest.contains("workspace = true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\na = \"1\"  # why\nb = \"1\"\n";

    #[test]
    fn a_dependency_needs_its_reason_here_or_at_the_root() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n\
            b.workspace = true\nc = \"1\"\nd = \"1\"  # why\ntidegate-x.workspace = true\n";
        assert_eq!(dependencies_without_reason(manifest, ROOT), ["b", "c"]);
    }

    #[test]
    fn development_and_build_dependencies_count() {
        let manifest =
            "[dev-dependencies]\nc = \"1\"\n[build-dependencies]\ne = \"1\"\n[lints]\nf = 1";
        assert_eq!(dependencies_without_reason(manifest, ROOT), ["c", "e"]);
    }
}
