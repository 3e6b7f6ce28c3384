//! Tasks whose image is missing, in the words of every engine: which image it is, where it was looked for, and where
//! more is said.

use crate::function::Known;

/// The words of engines, in lower case. The second and later forms come from containerd's image store and registries.
const MISSING: [&str; 6] = [
    "no such image",
    "failed to resolve reference",
    "manifest unknown",
    "pull access denied",
    "no matching manifest",
    "no match for platform",
];

/// Where an image without a registry in its name is looked for.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Says more of a function whose image is missing.
pub(super) fn explain(function: &mut Known) {
    let Some(problem) = &mut function.problem else { return };
    if let Some(explained) = explained(problem, &function.about.image, function.name.as_str()) {
        *problem = explained;
    }
}

/// `None` when the engine's words are about something else.
fn explained(problem: &str, image: &str, service: &str) -> Option<String> {
    let lower = problem.to_ascii_lowercase();
    MISSING.iter().any(|words| lower.contains(words)).then(|| {
        let image = image.split('@').next().unwrap_or_default(); // the digest is in the engine's words, if it matters
        format!(
            "image `{image}` is not on the node, and registry `{}` does not give it: {problem}; \
             see docker service ps --no-trunc {service}",
            registry(image)
        )
    })
}

/// The first part of a name is a registry when it cannot be anything else.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DEFAULT_REGISTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../../docs/errors.md");

    #[test]
    fn every_engines_words_for_a_missing_image_are_known() {
        for problem in [
            "No such image: localhost/faas/echo:1",
            "failed to resolve reference \"localhost/faas/echo:1\": failed to do request: Head \
             \"https://localhost/v2/faas/echo/manifests/1\": dial tcp 127.0.0.1:443: connect: connection refused",
            "failed to resolve reference \"localhost/faas/echo:1\": localhost/faas/echo:1: not found",
            "manifest for echo:1 not found: manifest unknown: manifest unknown",
            "pull access denied for echo, repository does not exist or may require 'docker login'",
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "no match for platform in manifest: not found",
        ] {
            let told = explained(problem, "localhost/faas/echo:1@sha256:0123", "echo").expect(problem);
            let begins = "image `localhost/faas/echo:1` is not on the node, and registry `localhost` does not give it: ";
            assert!(told.starts_with(begins) && told.contains(problem), "{told}");
            assert!(told.ends_with("; see docker service ps --no-trunc echo"), "{told}");
        }
        for problem in ["no suitable node (scheduling constraints not satisfied)", "task: non-zero exit (1)"]
        {
            assert_eq!(explained(problem, "echo:1", "echo"), None);
        }
    }

    #[test]
    fn a_registry_is_told_from_a_user() {
        for (image, want) in [
            ("alpine", "docker.io"),
            ("faas/echo:1", "docker.io"),
            ("localhost/faas/echo", "localhost"),
            ("registry:5000/echo", "registry:5000"),
            ("ghcr.io/faas/echo:1", "ghcr.io"),
        ] {
            assert_eq!(registry(image), want);
        }
    }

    #[test]
    fn the_words_are_in_the_documents() {
        let document = DOCUMENT.to_ascii_lowercase();
        let unknown: Vec<_> = MISSING.iter().filter(|words| !document.contains(*words)).collect();
        assert!(unknown.is_empty(), "docs/errors.md lacks {unknown:?}");
    }
}
