//! Placement agrees with an independent implementation on recorded vectors.
