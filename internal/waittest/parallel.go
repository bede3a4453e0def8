// SPDX-License-Identifier: MPL-2.0

package waittest

import (
	"flag"
	"strconv"
)

// Parallel lets n of the package's parallel tests, at least one, run at a time: those that wait most of the time need no processor
// each. It is for the beginning of TestMain. The flag -parallel, which is read later, wins.
func Parallel(n int) {
	_ = flag.Set("test.parallel", strconv.Itoa(n)) // it is there, and takes a number
}
