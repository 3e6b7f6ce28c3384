//! Makes an image narrower by averages over areas: each new pixel is the mean of what it covers, and a pixel on
//! an edge counts for the part of it that is inside. First along the rows, then along the columns.

use crate::image::{Channels, Image};

/// Makes `image` at most `width` pixels wide, with the height that fits. It is never enlarged.
pub(crate) fn to_width(image: Image, width: u32) -> Image {
    if image.width <= width {
        return image;
    }
    let exact = u64::from(image.height) * u64::from(width);
    let height = (exact + u64::from(image.width) / 2) / u64::from(image.width);
    // Not over the old height, as the new width is below the old one.
    let height = u32::try_from(height).unwrap_or(image.height).max(1);
    let channels = image.channels;
    let columns = spans(image.width, width);
    let rows = spans(image.height, height);
    let line = image.width as usize * channels.count();
    let mut pixels = Vec::with_capacity(width as usize * height as usize * channels.count());
    let mut sums = vec![Sum::default(); width as usize];
    for row in &rows {
        sums.fill(Sum::default());
        for (y, part) in row.parts() {
            let source = &image.pixels[y * line..][..line];
            for (sum, column) in sums.iter_mut().zip(&columns) {
                for (x, share) in column.parts() {
                    sum.add(&source[x * channels.count()..][..channels.count()], channels, part * share);
                }
            }
        }
        sums.iter().for_each(|sum| sum.put(channels, &mut pixels));
    }
    Image { width, height, channels, pixels }
}

/// What one new pixel covers of a row or column of old ones, in units of which an old pixel has `new` and a new
/// one has `old`: all of it whole numbers.
struct Span {
    start: u64,
    end: u64,
    unit: u64,
}

fn spans(old: u32, new: u32) -> Vec<Span> {
    let (old, new) = (u64::from(old), u64::from(new));
    (0..new).map(|place| Span { start: place * old, end: (place + 1) * old, unit: new }).collect()
}

impl Span {
    /// The old pixels under it, each with how much of it is covered.
    fn parts(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let (first, last) = (self.start / self.unit, (self.end - 1) / self.unit);
        (first..=last).map(|place| {
            let (start, end) = (place * self.unit, (place + 1) * self.unit);
            (place as usize, end.min(self.end) - start.max(self.start))
        })
    }
}

/// A weighted sum of pixels. Colours weigh by how opaque they are: what cannot be seen has no colour.
///
/// It cannot overflow: the weights add up to the number of pixels of the old image, at most 2^24, and a value
/// and an opacity are below 2^8.
#[derive(Clone, Default)]
struct Sum {
    weight: u64,
    /// Of the alpha channel, where there is one.
    opacity: u64,
    colours: [u64; 3],
}

impl Sum {
    fn add(&mut self, pixel: &[u8], channels: Channels, weight: u64) {
        self.weight += weight;
        let (colours, weight) = match pixel.split_last() {
            Some((alpha, colours)) if channels.has_alpha() => {
                self.opacity += weight * u64::from(*alpha);
                (colours, weight * u64::from(*alpha))
            }
            _ => (pixel, weight),
        };
        for (sum, value) in self.colours.iter_mut().zip(colours) {
            *sum += weight * u64::from(*value);
        }
    }

    fn put(&self, channels: Channels, pixels: &mut Vec<u8>) {
        let whole = if channels.has_alpha() { self.opacity } else { self.weight };
        let colours = channels.count() - usize::from(channels.has_alpha());
        pixels.extend(self.colours[..colours].iter().map(|sum| mean(*sum, whole)));
        if channels.has_alpha() {
            pixels.push(mean(self.opacity, self.weight));
        }
    }
}

/// Rounded; 0 where there is nothing to be seen.
fn mean(sum: u64, weight: u64) -> u8 {
    if weight == 0 {
        return 0;
    }
    // A mean of bytes is a byte.
    u8::try_from((sum + weight / 2) / weight).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, pixels: &[u8]) -> Image {
        let height = u32::try_from(pixels.len()).expect("it is small") / width;
        Image { width, height, channels: Channels::Gray, pixels: pixels.to_vec() }
    }

    #[test]
    fn pixels_are_means_of_what_they_cover() {
        let cases: [(Image, u32, Image); 6] = [
            (gray(4, &[10, 20, 30, 50]), 2, gray(2, &[15, 40])),
            (gray(2, &[0, 10, 20, 30]), 1, gray(1, &[15])),
            // A third belongs to both neighbours.
            (gray(3, &[0, 90, 90, 0, 90, 90, 0, 90, 90]), 2, gray(2, &[30, 90, 30, 90])),
            (gray(3, &[1, 2, 3]), 3, gray(3, &[1, 2, 3])),
            (gray(3, &[1, 2, 3]), 2048, gray(3, &[1, 2, 3])),
            (gray(2, &[0, 1]), 1, gray(1, &[1])),
        ];
        for (image, width, want) in cases {
            assert_eq!(to_width(image.clone(), width), want, "{image:?} to {width}");
        }
    }

    #[test]
    fn heights_keep_the_shape() {
        let cases = [
            ((100, 50), 10, (10, 5)),
            ((100, 55), 10, (10, 6)),
            ((100, 54), 10, (10, 5)),
            ((1000, 1), 10, (10, 1)),
            ((10, 1000), 1, (1, 100)),
            ((11, 3), 10, (10, 3)),
        ];
        for ((width, height), to, want) in cases {
            let image = gray(width, &vec![77; (width * height) as usize]);
            let scaled = to_width(image, to);
            assert_eq!((scaled.width, scaled.height), want);
            assert!(scaled.pixels.iter().all(|pixel| *pixel == 77), "what is even stays even");
            assert_eq!(scaled.pixels.len(), (want.0 * want.1) as usize);
        }
    }

    #[test]
    fn what_cannot_be_seen_has_no_colour() {
        let rgba = |pixels: &[u8]| Image {
            width: u32::try_from(pixels.len()).expect("it is small") / 4,
            height: 1,
            channels: Channels::Rgba,
            pixels: pixels.to_vec(),
        };
        let cases = [
            ([200, 100, 50, 255, 0, 0, 0, 0], [200, 100, 50, 128]),
            ([200, 100, 50, 0, 9, 9, 9, 0], [0, 0, 0, 0]),
            ([10, 20, 30, 255, 30, 40, 50, 255], [20, 30, 40, 255]),
        ];
        for (pixels, want) in cases {
            assert_eq!(to_width(rgba(&pixels), 1), rgba(&want));
        }
    }
}
