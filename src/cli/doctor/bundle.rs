//! The bundle: a folder, or a tar archive packed with gzip, that only its owner may read.
//!
//! The archive is ustar (POSIX.1-1988): a header of 512 bytes for each file, its bytes filled up to 512, two empty blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Piece;

const BLOCK: usize = 512;
/// The folder of an archive's files, so that unpacking strews nothing.
const FOLDER: &str = "meshscope-doctor";

/// Writes the summary, the pieces that there are, and a list of those that are missing.
///
/// # Errors
/// When the path exists already, or cannot be written.
pub(super) fn write(path: &Path, summary: &[(&str, String)], pieces: &[Piece], seconds: u64) -> io::Result<()> {
    let missing: String =
        (pieces.iter()).filter_map(|piece| Some(format!("{}: {}\n", piece.name, piece.text.as_ref().err()?))).collect();
    let mut files: Vec<(&str, &str)> = summary.iter().map(|(name, text)| (*name, text.as_str())).collect();
    files.extend(pieces.iter().filter_map(|piece| Some((piece.name.as_str(), piece.text.as_deref().ok()?))));
    files.push(("missing.txt", &missing));
    let name = path.to_string_lossy();
    if !name.ends_with(".tar.gz") && !name.ends_with(".tgz") {
        DirBuilder::new().mode(0o700).create(path)?;
        for (name, text) in files {
            new_file(&path.join(name))?.write_all(text.as_bytes())?;
        }
        return Ok(());
    }
    let archive = |file: File| -> io::Result<()> {
        let mut packed = GzEncoder::new(io::BufWriter::new(file), Compression::default());
        for (name, text) in files {
            packed.write_all(&header(&format!("{FOLDER}/{name}"), text.len(), seconds)?)?;
            packed.write_all(text.as_bytes())?;
            packed.write_all(&[0; BLOCK][..text.len().next_multiple_of(BLOCK) - text.len()])?;
        }
        packed.write_all(&[0; 2 * BLOCK])?;
        packed.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    let outcome = archive(new_file(path)?);
    if outcome.is_err() {
        // Half an archive would be taken for a whole one.
        let _ = fs::remove_file(path);
    }
    outcome
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The header of a plain file. Numbers are octal texts; the checksum counts its own field as blanks.
fn header(name: &str, length: usize, seconds: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    if name.len() > 99 || length >= 1 << 33 {
        return Err(io::Error::other(format!("{name} of {length} bytes does not fit into a tar archive")));
    }
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{length:011o}\0"));
    put(136, &format!("{:011o}\0", seconds & 0o77_777_777_777));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_its_fields_and_its_sum() {
        let block = header("meshscope-doctor/a.txt", 1000, 1_700_000_000).expect("it fits");
        assert_eq!(&block[..22], b"meshscope-doctor/a.txt");
        assert_eq!(&block[124..136], b"00000001750\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        let told = u32::from_str_radix(std::str::from_utf8(&block[148..154]).expect("text"), 8).expect("octal");
        let sum: u32 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        assert_eq!(told, sum);
        assert!(header(&"x".repeat(100), 1, 0).is_err() && header("x", 1 << 33, 0).is_err());
    }
}
