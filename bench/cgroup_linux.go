// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup is a group of processes whose CPU time can be limited. It is empty when it is removed.
type cgroup struct {
	dir     string
	unified bool // version 2
}

// newCgroup makes a group below this process's own one, or below the root if that one is not to be seen. An error wraps
// errNoCgroup.
func newCgroup(name string) (*cgroup, error) {
	name = fmt.Sprintf("consul-lambda-bench-%d-%s", os.Getpid(), name)
	var errs []error
	for _, h := range []struct {
		root, controller, file string
		unified                bool
	}{
		{"/sys/fs/cgroup/cpu", "cpu", "cpu.cfs_quota_us", false},
		{"/sys/fs/cgroup/cpu,cpuacct", "cpu", "cpu.cfs_quota_us", false},
		{"/sys/fs/cgroup", "", "cpu.max", true},
	} {
		for _, own := range []string{ownCgroup(h.controller), "/"} {
			parent := filepath.Join(h.root, own)
			if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil {
				continue
			}
			g := &cgroup{dir: filepath.Join(parent, name), unified: h.unified}
			err := os.Mkdir(g.dir, 0o755)
			if err == nil {
				if _, err = os.Stat(filepath.Join(g.dir, h.file)); err == nil {
					return g, nil
				}
				_ = g.remove() // the controller is not delegated
			}
			errs = append(errs, err)
		}
	}
	if errs == nil {
		errs = []error{errors.New("none is mounted at /sys/fs/cgroup")}
	}
	return nil, fmt.Errorf("%w: %w", errNoCgroup, errors.Join(errs...))
}

// ownCgroup returns where in a hierarchy this process is, "/" if it does not know.
func ownCgroup(controller string) string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "/"
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			if c == controller {
				return parts[2]
			}
		}
	}
	return "/"
}

// add moves a process with all its threads into the group.
func (g *cgroup) add(pid int) error { return g.set("cgroup.procs", strconv.Itoa(pid)) }

// limit lets the group run for quota in each period. The kernel takes no quota below 1 ms.
func (g *cgroup) limit(quota, period time.Duration) error {
	if g.unified {
		return g.set("cpu.max", fmt.Sprintf("%d %d", quota.Microseconds(), period.Microseconds()))
	}
	if err := g.set("cpu.cfs_period_us", strconv.FormatInt(period.Microseconds(), 10)); err != nil {
		return err
	}
	return g.set("cpu.cfs_quota_us", strconv.FormatInt(quota.Microseconds(), 10))
}

func (g *cgroup) set(file, value string) error {
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("setting a CPU share: %w", err)
	}
	return nil
}

// remove waits for the last process to have left.
func (g *cgroup) remove() error {
	var err error
	for range 100 {
		if err = os.Remove(g.dir); !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
