package tpm

// Parts are the two parts of a key file, for judges.
func Parts(data []byte) (public, private []byte, err error) {
	f, err := parseKeyFile(data)
	if err != nil {
		return nil, nil, err
	}
	return f.blob.public, f.blob.private, nil
}
