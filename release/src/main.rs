//! `release BUILT OUT VERSION TIME` writes `LICENCES.txt` and `sbom.cdx.json` into the folder OUT, for the
//! binaries that `tools/static.sh` put into the folder BUILT. `tools/dist.sh` runs it in the project's root.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use release::{Toolchain, licences_text, notices, sbom, shipped, standard_library};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [built, out, version, time] = arguments.as_slice() else {
        eprintln!("expected `release BUILT OUT VERSION TIME`");
        return ExitCode::from(2);
    };
    match write(Path::new(built), Path::new(out), version, time) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("release: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(built: &Path, out: &Path, version: &str, time: &str) -> Result<(), Box<dyn Error>> {
    let root = Path::new(".").canonicalize()?;
    let toolchain = Toolchain::parse(&fs::read_to_string(built.join("built-with.txt"))?)?;
    let mut packages = shipped(&root, &toolchain.target)?;
    packages.extend(standard_library(&built.join("built-from.json"), &toolchain, &packages)?);
    packages.extend(toolchain.packages());
    let notices = notices(&packages, &root.join("tools/licences"))?;
    fs::write(out.join("LICENCES.txt"), licences_text(&packages, &notices))?;
    let sbom = sbom(&packages, version, time);
    fs::write(out.join("sbom.cdx.json"), format!("{sbom:#}\n"))?;
    Ok(())
}
