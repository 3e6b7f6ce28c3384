//! Reads and writes PNG images by rows; no other file knows the library.

use std::fmt::Display;
use std::io::{self, Write};

use png::{BitDepth, ColorType, Decoder, DecodingError, Encoder, Limits, Reader, Transformations};

use crate::input::Input;

/// Bound of each side. The compressor clears a buffer of 32 KiB for each row, so short rows are expensive:
/// sixteen million rows of one pixel cost a hundred times as much as a square.
const MAX_SIDE: u32 = 16 * 1024;

/// 16 megapixels: decoded in a fraction of a second.
const MAX_PIXELS: u64 = 16 * 1024 * 1024;

/// An interlaced image has no complete row before its last pass, so all of it is held: 16 MiB with four
/// channels.
const MAX_INTERLACED_PIXELS: u64 = 4 * 1024 * 1024;

/// What the library may hold of chunks that describe the image. It holds one of them twice.
const MAX_DECODER_BYTES: usize = 4 * 1024 * 1024;

/// The largest width. The new image is held until it is complete.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// The compressed bytes of one chunk.
const CHUNK_BYTES: usize = 32 * 1024;

/// The buffer of the new image grows by this much. Doubling could take twice the limit.
const GROWTH_BYTES: usize = 1024 * 1024;

/// The shape of an image. A pixel has one byte for each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: Channels,
}

impl Shape {
    /// Bytes of a row.
    pub(crate) fn row(self) -> usize {
        self.width as usize * self.channels.count()
    }
}

/// The channels of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
}

impl Channels {
    /// Bytes of a pixel.
    pub(crate) fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::GrayAlpha => 2,
            Channels::Rgb => 3,
            Channels::Rgba => 4,
        }
    }

    /// Whether the last channel is the opacity.
    pub(crate) fn has_alpha(self) -> bool {
        matches!(self, Channels::GrayAlpha | Channels::Rgba)
    }
}

/// Reads the rows of a PNG. Palettes become colours, 16 bits become 8; of an animation the first picture
/// counts.
pub(crate) struct Source<'a> {
    reader: Reader<&'a mut Input>,
    shape: Shape,
    /// All rows of an interlaced image, and where the next one starts.
    whole: Option<(Vec<u8>, usize)>,
}

impl<'a> Source<'a> {
    /// Reads the head of the image, and all of an interlaced image.
    ///
    /// # Errors
    /// When the input is no PNG, is broken, or is too large.
    pub(crate) fn open(input: &'a mut Input) -> Result<Source<'a>, String> {
        let mut decoder = Decoder::new_with_limits(input, Limits { bytes: MAX_DECODER_BYTES });
        decoder.set_transformations(Transformations::normalize_to_color8());
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let info = decoder.read_header_info().map_err(broken)?;
        // For the library the first picture of an animation has this size.
        let (width, height, is_interlaced) = (info.width, info.height, info.interlaced);
        hold(width, height, is_interlaced)?;
        let mut reader = decoder.read_info().map_err(broken)?;
        let channels = match reader.output_color_type().0 {
            ColorType::Grayscale => Channels::Gray,
            ColorType::GrayscaleAlpha => Channels::GrayAlpha,
            ColorType::Rgb => Channels::Rgb,
            ColorType::Rgba => Channels::Rgba,
            ColorType::Indexed => return Err("expected colours, got a palette".to_owned()),
        };
        let mut whole = None;
        if is_interlaced {
            // No overflow: the number of pixels is bounded above.
            let size = reader.output_buffer_size().ok_or("expected a PNG that fits into memory")?;
            let mut pixels = vec![0; size];
            reader.next_frame(&mut pixels).map_err(broken)?;
            whole = Some((pixels, 0));
        }
        Ok(Source { reader, shape: Shape { width, height, channels }, whole })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The next row; `None` after the last one.
    ///
    /// # Errors
    /// When the image is broken.
    pub(crate) fn next_row(&mut self) -> Result<Option<&[u8]>, String> {
        match &mut self.whole {
            Some((pixels, place)) => {
                let row = pixels.get(*place..*place + self.shape.row());
                *place += self.shape.row();
                Ok(row)
            }
            None => self.reader.next_interlaced_row().map_err(broken).map(|row| row.map(|row| row.data())),
        }
    }
}

/// # Errors
/// When the image has too many pixels.
fn hold(width: u32, height: u32, is_interlaced: bool) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    let want = if width.max(height) > MAX_SIDE {
        format!("at most {MAX_SIDE} pixels on each side")
    } else if pixels > MAX_PIXELS {
        format!("at most {MAX_PIXELS} pixels")
    } else if is_interlaced && pixels > MAX_INTERLACED_PIXELS {
        format!("at most {MAX_INTERLACED_PIXELS} pixels in an interlaced image")
    } else {
        return Ok(());
    };
    Err(format!("expected {want}, got {width} x {height}"))
}

fn broken(error: DecodingError) -> String {
    match error {
        // The input's own error is complete.
        DecodingError::IoError(error) if error.get_ref().is_some() => error.to_string(),
        DecodingError::LimitsExceeded => {
            format!("expected at most {MAX_DECODER_BYTES} bytes besides the pixels, got more")
        }
        error => format!("expected a PNG: {error}"),
    }
}

/// Makes a PNG of the rows that `fill` writes with [`put`], one call for each.
///
/// # Errors
/// When `fill` fails, or the PNG is too large.
pub(crate) fn encode(
    shape: Shape,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let mut png = Bounded(Vec::new());
    let mut encoder = Encoder::new(&mut png, shape.width, shape.height);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_color(match shape.channels {
        Channels::Gray => ColorType::Grayscale,
        Channels::GrayAlpha => ColorType::GrayscaleAlpha,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    });
    let mut writer = encoder.write_header().map_err(unwritten)?;
    let mut rows = writer.stream_writer_with_size(CHUNK_BYTES).map_err(unwritten)?;
    fill(&mut rows)?;
    rows.finish().map_err(unwritten)?;
    writer.finish().map_err(unwritten)?;
    Ok(png.0)
}

/// Writes a row.
///
/// # Errors
/// When the PNG becomes too large.
pub(crate) fn put(rows: &mut dyn Write, row: &[u8]) -> Result<(), String> {
    rows.write_all(row).map_err(unwritten)
}

fn unwritten(error: impl Display) -> String {
    format!("failed to write a PNG: {error}")
}

/// Collects bytes up to a limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT_BYTES - self.0.len() {
            let text =
                format!("expected at most {MAX_OUTPUT_BYTES} bytes, got more: ask for a smaller `width`");
            return Err(io::Error::other(text));
        }
        if bytes.len() > self.0.capacity() - self.0.len() {
            self.0.reserve_exact(bytes.len().max(GROWTH_BYTES));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    type Image = (Shape, Vec<u8>);

    fn image(channels: Channels) -> Image {
        let shape = Shape { width: 7, height: 5, channels };
        (shape, (0..shape.row() * 5).map(|index| (index * 7 % 251) as u8).collect())
    }

    fn write((shape, pixels): &Image) -> Vec<u8> {
        let png = encode(*shape, |rows| pixels.chunks(shape.row()).try_for_each(|row| put(rows, row)));
        png.expect("it can be written")
    }

    fn read(png: &[u8]) -> Result<Image, String> {
        let mut input = Input::new(Box::new(Cursor::new(png.to_vec())));
        let mut source = Source::open(&mut input)?;
        let shape = source.shape();
        let mut pixels = Vec::new();
        while let Some(row) = source.next_row()? {
            assert_eq!(row.len(), shape.row());
            pixels.extend_from_slice(row);
        }
        Ok((shape, pixels))
    }

    #[test]
    fn a_written_image_can_be_read() {
        for channels in [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba] {
            let image = image(channels);
            assert_eq!(read(&write(&image)), Ok(image));
        }
    }

    #[test]
    fn every_prefix_of_an_image_is_refused() {
        let png = write(&image(Channels::Rgb));
        // The last chunk, twelve bytes, only marks the end.
        for size in 0..png.len() - 12 {
            let error = read(&png[..size]).expect_err("it is cut");
            assert!(error.starts_with("expected a PNG: "), "{size}: {error}");
        }
    }

    #[test]
    fn an_image_with_changed_bytes_is_refused_or_read() {
        let png = write(&image(Channels::Rgba));
        for place in 0..png.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = png.clone();
                changed[place] ^= flip;
                // Both are right. It must not panic, or allocate what the image claims.
                let _ = read(&changed);
            }
        }
    }

    #[test]
    fn too_large_images_are_refused() {
        let cases = [
            (4096, 4096, false, ""),
            (4096, 4097, false, "expected at most 16777216 pixels, got 4096 x 4097"),
            (16384, 1024, false, ""),
            (1, 16384, false, ""),
            (1, 16385, false, "expected at most 16384 pixels on each side, got 1 x 16385"),
            (16385, 1, true, "expected at most 16384 pixels on each side, got 16385 x 1"),
            (
                u32::MAX,
                u32::MAX,
                false,
                "expected at most 16384 pixels on each side, got 4294967295 x 4294967295",
            ),
            (2048, 2048, true, ""),
            (2048, 2049, true, "expected at most 4194304 pixels in an interlaced image, got 2048 x 2049"),
        ];
        for (width, height, is_interlaced, want) in cases {
            assert_eq!(hold(width, height, is_interlaced).err().unwrap_or_default(), want);
        }
        // The size is checked first: the image has no pixels.
        let mut png = Vec::new();
        drop(Encoder::new(&mut png, 1, 16385).write_header().expect("it can be written"));
        assert_eq!(read(&png), Err("expected at most 16384 pixels on each side, got 1 x 16385".to_owned()));
    }

    #[test]
    fn too_large_results_are_refused() {
        let mut png = Bounded(Vec::new());
        png.write_all(&vec![0; MAX_OUTPUT_BYTES - 1]).expect("there is room");
        png.write_all(&[0]).expect("there is room");
        let error = png.write_all(&[0]).expect_err("it is full").to_string();
        assert_eq!(error, "expected at most 16777216 bytes, got more: ask for a smaller `width`");
    }

    #[test]
    fn palettes_and_16_bit_channels_become_8_bit_channels() {
        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, 2, 1);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::One);
        encoder.set_palette(&[1, 2, 3, 4, 5, 6][..]);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&[0b0100_0000]))
            .expect("written");
        let (shape, pixels) = read(&png).expect("it is a PNG");
        assert_eq!((shape.channels, &*pixels), (Channels::Rgb, &[1, 2, 3, 4, 5, 6][..]));

        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, 1, 1);
        encoder.set_color(ColorType::GrayscaleAlpha);
        encoder.set_depth(BitDepth::Sixteen);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&[1, 9, 2, 9]))
            .expect("written");
        let (shape, pixels) = read(&png).expect("it is a PNG");
        assert_eq!((shape.channels, &*pixels), (Channels::GrayAlpha, &[1, 2][..]));
    }
}
