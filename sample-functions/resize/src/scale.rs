//! Makes an image narrower by averages over areas, first along the rows, then along the columns. A new pixel
//! is the mean of the old pixels below it; a pixel on the edge counts for the part inside.
//!
//! Rows go in and come out one by one; at most two are held.

use crate::image::{Channels, Shape};

/// The state between old rows and new ones.
pub(crate) struct Scaler {
    old: Shape,
    new: Shape,
    columns: Vec<Span>,
    /// The old row, already at the new width.
    line: Vec<Sum<u32>>,
    /// The sums of the new row so far.
    sums: Vec<Sum<u64>>,
    /// What the new row still lacks. In these units an old row has `new.height`, a new one `old.height`.
    missing: u32,
    /// The finished row.
    row: Vec<u8>,
}

impl Scaler {
    /// Makes an image of shape `old` at most `width` pixels wide, and keeps its shape. Never enlarges.
    pub(crate) fn new(old: Shape, width: u32) -> Scaler {
        let new = narrower(old, width);
        let columns = spans(old.width, new.width);
        let (line, sums) = (vec![Sum::default(); columns.len()], vec![Sum::default(); columns.len()]);
        Scaler { old, new, columns, line, sums, missing: old.height, row: Vec::with_capacity(new.row()) }
    }

    /// The shape of the new image.
    pub(crate) fn shape(&self) -> Shape {
        self.new
    }

    /// Takes the next old row. One old row completes at most one new row, since there are no more new rows.
    pub(crate) fn push<'a>(&'a mut self, row: &'a [u8]) -> Option<&'a [u8]> {
        if self.new == self.old {
            return Some(row);
        }
        for (sum, column) in self.line.iter_mut().zip(&self.columns) {
            *sum = column.sum(row, self.old.channels);
        }
        let part = self.new.height.min(self.missing);
        self.add(part);
        self.missing -= part;
        if self.missing > 0 {
            return None;
        }
        self.complete();
        self.missing = self.old.height;
        let rest = self.new.height - part;
        self.add(rest);
        self.missing -= rest;
        Some(&self.row)
    }

    fn add(&mut self, part: u32) {
        for (sum, line) in self.sums.iter_mut().zip(&self.line) {
            sum.opacity += u64::from(part) * u64::from(line.opacity);
            for (sum, line) in sum.colours.iter_mut().zip(line.colours) {
                *sum += u64::from(part) * u64::from(line);
            }
        }
    }

    /// Makes the new row from the sums, and clears them.
    fn complete(&mut self) {
        let weight = u64::from(self.old.width) * u64::from(self.old.height);
        self.row.clear();
        for sum in &mut self.sums {
            sum.put(weight, self.new.channels, &mut self.row);
            *sum = Sum::default();
        }
    }
}

fn narrower(old: Shape, width: u32) -> Shape {
    if old.width <= width {
        return old;
    }
    let exact = u64::from(old.height) * u64::from(width);
    let height = (exact + u64::from(old.width) / 2) / u64::from(old.width);
    // At most the old height, since the new width is at most the old one.
    let height = u32::try_from(height).unwrap_or(old.height).max(1);
    Shape { width, height, ..old }
}

/// The part of a row of old pixels that one new pixel covers. In these units an old pixel has `unit`, the
/// number of new pixels, and a new pixel has the number of old ones: all are whole numbers.
struct Span {
    start: u32,
    end: u32,
    unit: u32,
}

/// A row has at most 2^14 x 2^11 units.
fn spans(old: u32, new: u32) -> Vec<Span> {
    (0..new).map(|place| Span { start: place * old, end: (place + 1) * old, unit: new }).collect()
}

impl Span {
    fn sum(&self, row: &[u8], channels: Channels) -> Sum<u32> {
        let mut sum = Sum::default();
        let (first, last) = (self.start / self.unit, (self.end - 1) / self.unit);
        let count = channels.count();
        let pixels = row[first as usize * count..(last as usize + 1) * count].chunks_exact(count);
        for (place, pixel) in (first..=last).zip(pixels) {
            let (start, end) = (place * self.unit, (place + 1) * self.unit);
            sum.add(pixel, channels, end.min(self.end) - start.max(self.start));
        }
        sum
    }
}

/// A weighted sum of pixels. Colours weigh by their opacity, since an invisible pixel has no colour.
///
/// It cannot overflow: the weights add up to the number of pixels, at most 2^14 in a row and 2^24 in an
/// image; a value and an opacity are below 2^8.
#[derive(Clone, Copy, Default)]
struct Sum<T> {
    /// The sum of the opacities.
    opacity: T,
    colours: [T; 3],
}

impl Sum<u32> {
    fn add(&mut self, pixel: &[u8], channels: Channels, weight: u32) {
        let (colours, weight) = match pixel.split_last() {
            Some((alpha, colours)) if channels.has_alpha() => {
                self.opacity += weight * u32::from(*alpha);
                (colours, weight * u32::from(*alpha))
            }
            _ => (pixel, weight),
        };
        for (sum, value) in self.colours.iter_mut().zip(colours) {
            *sum += weight * u32::from(*value);
        }
    }
}

impl Sum<u64> {
    fn put(&self, weight: u64, channels: Channels, row: &mut Vec<u8>) {
        let whole = if channels.has_alpha() { self.opacity } else { weight };
        let colours = channels.count() - usize::from(channels.has_alpha());
        row.extend(self.colours[..colours].iter().map(|sum| mean(*sum, whole)));
        if channels.has_alpha() {
            row.push(mean(self.opacity, weight));
        }
    }
}

/// The rounded mean; 0 for an invisible pixel.
fn mean(sum: u64, weight: u64) -> u8 {
    if weight == 0 {
        return 0;
    }
    // The mean of bytes fits a byte.
    u8::try_from((sum + weight / 2) / weight).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Image = (Shape, Vec<u8>);

    fn gray(width: u32, pixels: &[u8]) -> Image {
        let height = u32::try_from(pixels.len()).expect("it is small") / width;
        (Shape { width, height, channels: Channels::Gray }, pixels.to_vec())
    }

    fn to_width((shape, pixels): &Image, width: u32) -> Image {
        let mut scaler = Scaler::new(*shape, width);
        let mut scaled = Vec::new();
        for row in pixels.chunks(shape.row()) {
            scaled.extend_from_slice(scaler.push(row).unwrap_or_default());
        }
        (scaler.shape(), scaled)
    }

    #[test]
    fn a_new_pixel_is_the_mean_of_the_old_pixels_below_it() {
        let cases: [(Image, u32, Image); 6] = [
            (gray(4, &[10, 20, 30, 50]), 2, gray(2, &[15, 40])),
            (gray(2, &[0, 10, 20, 30]), 1, gray(1, &[15])),
            // The middle pixel belongs to both neighbours.
            (gray(3, &[0, 90, 90, 0, 90, 90, 0, 90, 90]), 2, gray(2, &[30, 90, 30, 90])),
            (gray(3, &[1, 2, 3]), 3, gray(3, &[1, 2, 3])),
            (gray(3, &[1, 2, 3]), 2048, gray(3, &[1, 2, 3])),
            (gray(2, &[0, 1]), 1, gray(1, &[1])),
        ];
        for (image, width, want) in cases {
            assert_eq!(to_width(&image, width), want, "{image:?} to {width}");
        }
    }

    #[test]
    fn the_new_height_keeps_the_shape() {
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
            let (shape, pixels) = to_width(&image, to);
            assert_eq!((shape.width, shape.height), want);
            assert!(pixels.iter().all(|pixel| *pixel == 77), "what is even stays even");
            assert_eq!(pixels.len(), (want.0 * want.1) as usize);
        }
    }

    #[test]
    fn invisible_pixels_have_no_colour() {
        let rgba = |pixels: &[u8]| {
            let width = u32::try_from(pixels.len()).expect("it is small") / 4;
            (Shape { width, height: 1, channels: Channels::Rgba }, pixels.to_vec())
        };
        let cases = [
            ([200, 100, 50, 255, 0, 0, 0, 0], [200, 100, 50, 128]),
            ([200, 100, 50, 0, 9, 9, 9, 0], [0, 0, 0, 0]),
            ([10, 20, 30, 255, 30, 40, 50, 255], [20, 30, 40, 255]),
        ];
        for (pixels, want) in cases {
            assert_eq!(to_width(&rgba(&pixels), 1), rgba(&want));
        }
    }

    #[test]
    fn the_largest_images_do_not_overflow() {
        for (width, height, to) in [(16384, 8, 2048), (16384, 4, 1), (2049, 16, 2048), (2, 16384, 1)] {
            let old = Shape { width, height, channels: Channels::Rgba };
            let mut scaler = Scaler::new(old, to);
            let row = vec![255; old.row()];
            let new = (0..height).filter(|_| match scaler.push(&row) {
                Some(row) => {
                    assert!(row.iter().all(|byte| *byte == 255), "what is even stays even");
                    true
                }
                None => false,
            });
            let count = new.count();
            assert_eq!(count, scaler.shape().height as usize, "{width} x {height} to {to}");
        }
    }
}
