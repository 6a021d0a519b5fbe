//! Files in the format of `torch.save`.

use crate::archive;

/// A PyTorch checkpoint with this pickle and two storages of 32 and 8 bytes.
pub fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let files = [
        ("archive/data.pkl", pickle.to_vec()),
        ("archive/byteorder", b"little".to_vec()),
        ("archive/data/0", vec![1; 32]),
        ("archive/data/1", vec![2; 8]),
        ("archive/version", b"3\n".to_vec()),
    ];
    archive(&files, false)
}
