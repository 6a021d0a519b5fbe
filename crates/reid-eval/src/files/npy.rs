//! NPY: the file of one array, as `numpy.lib.format` describes it.
//!
//! ```text
//! \x93NUMPY  major  minor  length of the header (2 bytes, from major 2 on 4)  header  values
//! {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
//! ```
//!
//! The header is a dictionary in Python's notation. It is read by what `NumPy` writes, not by all that Python
//! allows, so the time and memory that it takes are those of its length.

use std::fmt;

use super::tensors::Shaped;

const MAGIC: &[u8] = b"\x93NUMPY";
/// What the magic, the header and its length are padded to together, as by `NumPy`.
const ALIGNMENT: usize = 64;

/// An array whose header was read.
pub(super) struct Array<'a> {
    header: Header,
    values: &'a [u8],
}

/// What a header says.
struct Header {
    dtype: Dtype,
    /// Whether the first index moves fastest.
    by_columns: bool,
    shape: Vec<usize>,
}

/// The type of values, such as `<f4`: in which order their bytes stand, of what they are, and how many bytes
/// each has.
#[derive(Clone, Copy)]
struct Dtype {
    order: char,
    letter: char,
    bytes: usize,
}

impl Dtype {
    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let (order, letter) = (letters.next()?, letters.next()?);
        let bytes: usize = number(letters.as_str())?;
        let known = matches!(order, '<' | '>' | '|') && letter.is_ascii_alphabetic();
        known.then_some(Self {
            order,
            letter,
            bytes,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}{}{}'", self.order, self.letter, self.bytes)
    }
}

impl<'a> Array<'a> {
    /// Reads the header of a file. `Err` says what is wrong, to stand behind "expected a `NumPy` array, ".
    pub(super) fn new(file: &'a [u8]) -> Result<Self, String> {
        let found = file.len();
        let (length, rest) = header_length(file)
            .ok_or_else(|| format!("found {found} bytes that do not begin as one"))?;
        let Some((text, values)) = rest.split_at_checked(length) else {
            let claimed = (found - rest.len()).saturating_add(length);
            return Err(format!(
                "whose header claims {claimed} bytes, found {found}"
            ));
        };
        let header = Header::parse(text).ok_or_else(|| {
            let shown: String = String::from_utf8_lossy(text).chars().take(80).collect();
            format!(
                "with a header such as {{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}}, found {}",
                shown.trim_end()
            )
        })?;
        // A header may claim more than there is; that must not be reserved.
        let sides = header.shape.iter();
        let claimed = sides
            .copied()
            .try_fold(header.dtype.bytes, usize::checked_mul);
        match claimed.and_then(|claimed| values.get(..claimed)) {
            Some(values) => Ok(Self { header, values }),
            None => Err(format!(
                "whose header claims the shape {:?} of {}, found {} bytes of values",
                header.shape,
                header.dtype,
                values.len()
            )),
        }
    }

    /// The letter of the type, and the bytes of a value.
    pub(super) fn kind(&self) -> (char, usize) {
        (self.header.dtype.letter, self.header.dtype.bytes)
    }

    /// The type as it stands in the header.
    pub(super) fn dtype(&self) -> String {
        self.header.dtype.to_string()
    }

    /// The values of `N` bytes each, row by row whatever the order in the file. `from` takes them with the
    /// least byte first.
    pub(super) fn read<const N: usize, T: Copy>(self, from: impl Fn([u8; N]) -> T) -> Shaped<T> {
        let Header {
            dtype,
            by_columns,
            shape,
        } = self.header;
        let (values, _) = self.values.as_chunks::<N>();
        let value = |bytes: &[u8; N]| {
            let mut bytes = *bytes;
            if dtype.order == '>' {
                bytes.reverse();
            }
            from(bytes)
        };
        let values: Vec<T> = values.iter().map(value).collect();
        match *shape.as_slice() {
            [rows, columns] if by_columns => {
                let row = |row| (0..columns).map(move |column| column * rows + row);
                let values = (0..rows).flat_map(row).map(|at| values[at]).collect();
                (shape, values)
            }
            _ => (shape, values),
        }
    }
}

/// The file of an array whose values are given row by row, with the least byte first. `dtype` is such as `<f4`.
pub(super) fn file<const N: usize>(
    dtype: &str,
    shape: &[usize],
    values: impl ExactSizeIterator<Item = [u8; N]>,
) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if sides.len() == 1 { "," } else { "" };
    let sides = sides.join(", ");
    let header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sides}{comma}), }}");
    let start = MAGIC.len() + 2 + 2;
    // A line break ends the header.
    let whole = (start + header.len() + 1).next_multiple_of(ALIGNMENT);
    let width = whole - start - 1;
    let length = u16::try_from(width + 1).expect("a shape of some sides");
    let mut file = Vec::with_capacity(whole + N * values.len());
    file.extend(MAGIC);
    file.extend([1, 0]);
    file.extend(length.to_le_bytes());
    file.extend(format!("{header:width$}\n").into_bytes());
    values.for_each(|value| file.extend(value));
    file
}

/// The length of the header, and what stands behind it.
fn header_length(file: &[u8]) -> Option<(usize, &[u8])> {
    match *file.strip_prefix(MAGIC)? {
        [1, _, a, b, ref rest @ ..] => Some((usize::from(u16::from_le_bytes([a, b])), rest)),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => {
            let length = u32::from_le_bytes([a, b, c, d]);
            Some((usize::try_from(length).ok()?, rest))
        }
        _ => None,
    }
}

impl Header {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = Words(std::str::from_utf8(text).ok()?);
        let (mut dtype, mut by_columns, mut shape) = (None, None, None);
        words.sign('{')?;
        while words.sign('}').is_none() {
            let key = words.text()?;
            words.sign(':')?;
            let new = match key {
                "descr" => dtype.replace(Dtype::parse(words.text()?)?).is_none(),
                "fortran_order" => by_columns.replace(words.truth()?).is_none(),
                "shape" => shape.replace(words.sides()?).is_none(),
                _ => false,
            };
            let ended = words.sign(',').is_none() && !words.0.trim_start().starts_with('}');
            if !new || ended {
                return None;
            }
        }
        words.0.trim().is_empty().then_some(())?;
        Some(Self {
            dtype: dtype?,
            by_columns: by_columns?,
            shape: shape?,
        })
    }
}

/// The rest of a header, from which one word after the other is taken. Spaces before a word are no part of it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn sign(&mut self, sign: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(sign)?;
        Some(())
    }

    /// What stands between two quotes; without escapes, which no name of a type has.
    fn text(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let quote = ['\'', '"']
            .into_iter()
            .find(|quote| rest.starts_with(*quote))?;
        let (text, rest) = rest[1..].split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        let rest = self.0.trim_start();
        let mut truths = [("True", true), ("False", false)].into_iter();
        let (rest, truth) =
            truths.find_map(|(word, truth)| Some((rest.strip_prefix(word)?, truth)))?;
        self.0 = rest;
        Some(truth)
    }

    /// The sides of a shape: `()`, `(3,)`, `(3, 4)`.
    fn sides(&mut self) -> Option<Vec<usize>> {
        self.sign('(')?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let inside = inside.trim();
        if inside.is_empty() {
            return Some(Vec::new());
        }
        let inside = inside.strip_suffix(',').unwrap_or(inside);
        // Python 2 wrote `3L`.
        let side = |side: &str| number(side.trim().trim_end_matches('L'));
        inside.split(',').map(side).collect()
    }
}

/// A number of digits alone: no sign, which `parse` would take.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: &str, values: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).expect("short").to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), values].concat()
    }

    fn refused(header: &str) -> bool {
        Array::new(&with_header(header, &[0; 24])).is_err()
    }

    #[test]
    fn a_file_is_as_numpy_writes_it() {
        // numpy.save(file, numpy.array([[1, 2]], "<i4")), NumPy 2.4.
        let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }";
        let mut expected = b"\x93NUMPY\x01\0\x76\0".to_vec();
        expected.extend(format!("{header:117}\n").into_bytes());
        expected.extend([1, 0, 0, 0, 2, 0, 0, 0]);
        let written = file("<i4", &[1, 2], [1_i32, 2].into_iter().map(i32::to_le_bytes));
        assert_eq!(written, expected);
        assert_eq!((written.len() - 8) % 64, 0);
        let array = Array::new(&written).expect("whole");
        assert_eq!(
            (array.kind(), array.dtype()),
            (('i', 4), "'<i4'".to_owned())
        );
        assert_eq!(array.read(i32::from_le_bytes), (vec![1, 2], vec![1, 2]));
        for shape in [vec![], vec![3], vec![1, 3, 1]] {
            let count: usize = shape.iter().product();
            let written = file("|u1", &shape, (0..count).map(|at| [at.to_le_bytes()[0]]));
            let (found, values) = Array::new(&written)
                .expect("whole")
                .read(|[byte]: [u8; 1]| byte);
            assert_eq!((found, values.len()), (shape, count));
        }
    }

    #[test]
    fn every_order_is_read() {
        let values: Vec<u8> = [1_u16, 2, 3, 4, 5, 6]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        for (fortran, expected) in [("False", [1, 2, 3, 4, 5, 6]), ("True", [1, 3, 5, 2, 4, 6])] {
            // Keys in any order, other quotes, spaces, Python 2's numbers, no comma at the end.
            let header = format!(
                " {{ \"shape\":(2L , 3L,),'fortran_order': {fortran} , 'descr' : '>u2'}} \n"
            );
            let file = with_header(&header, &values);
            let array = Array::new(&file).expect("whole");
            assert_eq!(
                array.read(u16::from_le_bytes),
                (vec![2, 3], expected.to_vec())
            );
        }
        let long = [
            MAGIC,
            &[2, 0, 54, 0, 0, 0],
            b"{'descr':'<i8','fortran_order':False,'shape':(1,)}    ",
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(
            Array::new(&long).expect("whole").read(i64::from_le_bytes),
            (vec![1], vec![7])
        );
    }

    #[test]
    fn other_headers_are_refused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}";
        assert!(!refused(good));
        for (from, to) in [
            ("'<f4'", "[('a', '<f4')]"), // a record
            ("'<f4'", "'f4'"),
            ("'<f4'", "'<f'"),
            ("'<f4'", "'<f4"),
            ("False", "false"),
            ("(2, 3)", "(2, -3)"),
            ("(2, 3)", "(2, 3"),
            ("(2, 3)", "(2 3)"),
            ("(2, 3)", "(+2, 3)"),
            ("(2, 3)", "(99999999999999999999,)"),
            ("(2, 3)", "6"),
            (", 'shape': (2, 3)", ""),
            ("'descr'", "'shape'"),
            ("'descr'", "'other'"),
            ("}", ""),
            ("}", "} x"),
            ("False,", "False"),
            ("{", "{{"),
        ] {
            assert!(refused(&good.replacen(from, to, 1)), "{from} as {to}");
        }
        assert!(refused(""));
        let unknown = with_header(good, &[0; 24]);
        for version in [0, 4, 255] {
            let mut unknown = unknown.clone();
            unknown[6] = version;
            assert!(Array::new(&unknown).is_err());
        }
    }
}
