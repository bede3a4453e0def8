// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// BinaryVariable is the environment variable that [Find] looks at first.
const BinaryVariable = "CONSUL_BINARY"

// Find returns the absolute path of the Consul program: what CONSUL_BINARY names, or else `consul` in dir, where
// `make consul` puts it. The error wraps [ErrNoBinary] if the variable is empty and dir has no such file; a file that is
// named but cannot be run is a mistake, and another error.
func Find(dir string) (string, error) {
	path := os.Getenv(BinaryVariable)
	named := path != ""
	if !named {
		path = filepath.Join(dir, "consul")
	}
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
		err = errors.New("it is not an executable file")
	}
	if errors.Is(err, fs.ErrNotExist) && !named {
		return "", fmt.Errorf("consulproc: %w: %s", ErrNoBinary, path)
	}
	if err != nil {
		return "", fmt.Errorf("consulproc: finding consul: %s: %w", path, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("consulproc: finding consul: %w", err)
	}
	return path, nil
}
