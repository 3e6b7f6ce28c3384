//! Images in memory, and as PNG; the only place that knows the library.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};

/// 16 megapixels: 64 MiB of memory with four channels.
const MAX_PIXELS: u64 = 16 * 1024 * 1024;

/// What the library may take besides the pixels.
const MAX_DECODER_BYTES: usize = 16 * 1024 * 1024;

/// Rows of pixels, each pixel one byte for each channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: Channels,
    pub(crate) pixels: Vec<u8>,
}

/// What the bytes of a pixel are.
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

    /// Whether the last of them says how opaque the pixel is.
    pub(crate) fn has_alpha(self) -> bool {
        matches!(self, Channels::GrayAlpha | Channels::Rgba)
    }
}

impl Image {
    /// Reads a PNG: palettes become colours, 16 bits become 8, of an animation the first picture is taken.
    ///
    /// # Errors
    /// When it is no PNG, is broken, or is too large.
    pub(crate) fn decode(png: &[u8]) -> Result<Image, String> {
        let broken = |error: png::DecodingError| format!("expected a PNG: {error}");
        let mut decoder = Decoder::new_with_limits(Cursor::new(png), Limits { bytes: MAX_DECODER_BYTES });
        decoder.set_transformations(Transformations::normalize_to_color8());
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let info = decoder.read_header_info().map_err(broken)?;
        let (width, height) = (info.width, info.height);
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(format!("expected at most {MAX_PIXELS} pixels, got {width} x {height}"));
        }
        let mut reader = decoder.read_info().map_err(broken)?;
        // It can be computed: the number of pixels was held above.
        let size = reader.output_buffer_size().ok_or("expected a PNG that fits into memory")?;
        let mut pixels = vec![0; size];
        let frame = reader.next_frame(&mut pixels).map_err(broken)?;
        let channels = match frame.color_type {
            ColorType::Grayscale => Channels::Gray,
            ColorType::GrayscaleAlpha => Channels::GrayAlpha,
            ColorType::Rgb => Channels::Rgb,
            ColorType::Rgba => Channels::Rgba,
            ColorType::Indexed => return Err("expected colours, got a palette".to_owned()),
        };
        // The first picture of an animation may be a part of the canvas.
        pixels.truncate(frame.buffer_size());
        Ok(Image { width: frame.width, height: frame.height, channels, pixels })
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// When the library refuses, which it has no reason to.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, self.width, self.height);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_color(match self.channels {
            Channels::Gray => ColorType::Grayscale,
            Channels::GrayAlpha => ColorType::GrayscaleAlpha,
            Channels::Rgb => ColorType::Rgb,
            Channels::Rgba => ColorType::Rgba,
        });
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        written.map(|()| png).map_err(|error| format!("failed to write a PNG: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: Channels) -> Image {
        let (width, height) = (7, 5);
        let size = width as usize * height as usize * channels.count();
        Image { width, height, channels, pixels: (0..size).map(|index| (index * 7 % 251) as u8).collect() }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for channels in [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba] {
            let image = image(channels);
            let png = image.encode().expect("it can be written");
            assert_eq!(Image::decode(&png), Ok(image));
        }
    }

    #[test]
    fn every_prefix_is_refused() {
        let png = image(Channels::Rgb).encode().expect("it can be written");
        // The last chunk, twelve bytes, says only that it is the last.
        for size in 0..png.len() - 12 {
            let error = Image::decode(&png[..size]).expect_err("it is cut");
            assert!(error.starts_with("expected a PNG: "), "{size}: {error}");
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_read() {
        let png = image(Channels::Rgba).encode().expect("it can be written");
        for place in 0..png.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = png.clone();
                changed[place] ^= flip;
                // Either is right; it must not panic, nor take what it is told for its size.
                let _ = Image::decode(&changed);
            }
        }
    }

    #[test]
    fn pixels_have_a_largest_number() {
        // 4096 x 4096 is the limit; one row more is over it. Neither has a pixel in it.
        let head = |height: u32| {
            let mut png = Vec::new();
            drop(Encoder::new(&mut png, 4096, height).write_header().expect("it can be written"));
            Image::decode(&png).expect_err("there are no pixels")
        };
        assert!(head(4096).starts_with("expected a PNG: "), "{}", head(4096));
        assert_eq!(head(4097), "expected at most 16777216 pixels, got 4096 x 4097");
    }

    #[test]
    fn palettes_and_deep_images_become_bytes() {
        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, 2, 1);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::One);
        encoder.set_palette(&[1, 2, 3, 4, 5, 6][..]);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&[0b0100_0000]))
            .expect("written");
        let image = Image::decode(&png).expect("it is a PNG");
        assert_eq!((image.channels, &*image.pixels), (Channels::Rgb, &[1, 2, 3, 4, 5, 6][..]));

        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, 1, 1);
        encoder.set_color(ColorType::GrayscaleAlpha);
        encoder.set_depth(BitDepth::Sixteen);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&[1, 9, 2, 9]))
            .expect("written");
        let image = Image::decode(&png).expect("it is a PNG");
        assert_eq!((image.channels, &*image.pixels), (Channels::GrayAlpha, &[1, 2][..]));
    }
}
