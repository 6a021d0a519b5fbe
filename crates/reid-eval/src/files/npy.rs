//! The `.npy` format of `NumPy`: a file with one array, as specified by `numpy.lib.format`.
//!
//! ```text
//! \x93NUMPY  major  minor  length of the header (2 bytes, 4 from major 2)  header  values
//! {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
//! ```
//!
//! The header is a Python dictionary literal. The parser accepts what `NumPy` writes, not all of Python's
//! syntax, so its time and memory are linear in the length of the header.

use std::fmt;

use super::tensors::Shaped;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The alignment of the values: as in `NumPy`, all that precedes them is padded to a multiple of it.
const ALIGNMENT: usize = 64;

/// An array whose header has been parsed.
pub(super) struct Array<'a> {
    header: Header,
    values: &'a [u8],
}

/// The content of a header.
struct Header {
    dtype: Dtype,
    /// Whether the values are in Fortran (column-major) order.
    by_columns: bool,
    shape: Vec<usize>,
}

/// The dtype, such as `<f4`: byte order, kind of value, and number of bytes per value.
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
    /// Parses the header of a file. The error text completes "expected a `NumPy` array, ".
    pub(super) fn new(file: &'a [u8]) -> Result<Self, String> {
        let found = file.len();
        let (length, rest) = header_length(file)
            .ok_or_else(|| format!("found {found} bytes that do not start like one"))?;
        let Some((text, values)) = rest.split_at_checked(length) else {
            let claimed = (found - rest.len()).saturating_add(length);
            return Err(format!(
                "but its header ends at byte {claimed} of a file of {found} bytes"
            ));
        };
        let header = Header::parse(text).ok_or_else(|| {
            let shown: String = String::from_utf8_lossy(text).chars().take(80).collect();
            format!(
                "with a header such as {{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}}, found {}",
                shown.trim_end()
            )
        })?;
        // The header may claim more values than the file has: check before any allocation.
        let sides = header.shape.iter();
        let claimed = sides
            .copied()
            .try_fold(header.dtype.bytes, usize::checked_mul);
        match claimed.and_then(|claimed| values.get(..claimed)) {
            Some(values) => Ok(Self { header, values }),
            None => Err(format!(
                "but its header has the shape {:?} of {}, found {} bytes of values",
                header.shape,
                header.dtype,
                values.len()
            )),
        }
    }

    /// The kind of value (a letter) and the number of bytes per value.
    pub(super) fn kind(&self) -> (char, usize) {
        (self.header.dtype.letter, self.header.dtype.bytes)
    }

    /// The dtype as written in the header.
    pub(super) fn dtype(&self) -> String {
        self.header.dtype.to_string()
    }

    /// Reads the values of `N` bytes each, row by row also if the file is column-major. `from` converts a
    /// value from its little-endian bytes.
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

/// Encodes an `.npy` file. The values are given row by row, as little-endian bytes; `dtype` is, for example,
/// `<f4`.
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
    let length = u16::try_from(width + 1).expect("a header of few dimensions is short");
    let mut file = Vec::with_capacity(whole + N * values.len());
    file.extend(MAGIC);
    file.extend([1, 0]);
    file.extend(length.to_le_bytes());
    file.extend(format!("{header:width$}\n").into_bytes());
    values.for_each(|value| file.extend(value));
    file
}

/// The length of the header, and the bytes from the header on.
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
        let mut tokens = Tokens(std::str::from_utf8(text).ok()?);
        let (mut dtype, mut by_columns, mut shape) = (None, None, None);
        tokens.sign('{')?;
        while tokens.sign('}').is_none() {
            let key = tokens.text()?;
            tokens.sign(':')?;
            let new = match key {
                "descr" => dtype.replace(Dtype::parse(tokens.text()?)?).is_none(),
                "fortran_order" => by_columns.replace(tokens.boolean()?).is_none(),
                "shape" => shape.replace(tokens.shape()?).is_none(),
                _ => false,
            };
            let ended = tokens.sign(',').is_none() && !tokens.0.trim_start().starts_with('}');
            if !new || ended {
                return None;
            }
        }
        tokens.0.trim().is_empty().then_some(())?;
        Some(Self {
            dtype: dtype?,
            by_columns: by_columns?,
            shape: shape?,
        })
    }
}

/// The rest of a header, from which one token after the other is parsed. Leading whitespace is skipped.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn sign(&mut self, sign: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(sign)?;
        Some(())
    }

    /// A quoted string. Escapes are not supported, since no dtype contains them.
    fn text(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let quote = ['\'', '"']
            .into_iter()
            .find(|quote| rest.starts_with(*quote))?;
        let (text, rest) = rest[1..].split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        let rest = self.0.trim_start();
        let mut literals = [("True", true), ("False", false)].into_iter();
        let (rest, value) =
            literals.find_map(|(word, value)| Some((rest.strip_prefix(word)?, value)))?;
        self.0 = rest;
        Some(value)
    }

    /// A shape, such as `()`, `(3,)` or `(3, 4)`.
    fn shape(&mut self) -> Option<Vec<usize>> {
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

/// Parses an unsigned integer of digits only; `str::parse` would accept a `+` too.
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

    fn is_rejected(header: &str) -> bool {
        Array::new(&with_header(header, &[0; 24])).is_err()
    }

    #[test]
    fn a_written_file_equals_the_one_of_numpy() {
        // Written by numpy.save(file, numpy.array([[1, 2]], "<i4")) of NumPy 2.4.
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
    fn row_major_and_column_major_arrays_are_read() {
        let values: Vec<u8> = [1_u16, 2, 3, 4, 5, 6]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        for (fortran, expected) in [("False", [1, 2, 3, 4, 5, 6]), ("True", [1, 3, 5, 2, 4, 6])] {
            // Keys in any order, double quotes, spaces, Python 2's integers, no trailing comma.
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
    fn invalid_headers_are_rejected() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}";
        assert!(!is_rejected(good));
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
            assert!(is_rejected(&good.replacen(from, to, 1)), "{from} as {to}");
        }
        assert!(is_rejected(""));
        let unknown = with_header(good, &[0; 24]);
        for version in [0, 4, 255] {
            let mut unknown = unknown.clone();
            unknown[6] = version;
            assert!(Array::new(&unknown).is_err());
        }
    }
}
