// SPDX-License-Identifier: MPL-2.0

package documents

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Config says where documents are and how they are written. Store must be set, the zero value of the rest works.
type Config struct {
	Store *paramstore.Store
	// Writer is the tier and the key.
	Writer paramstore.WriterConfig
	// Prefix is what Page lists below. Empty: nothing is listed.
	Prefix string
}

const (
	// maxTries with pauses of up to 1, 2, 4, 5 and 5 s outlast other writers of the account.
	maxTries     = 6
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Second
)

// Documents are the documents below a prefix. It is safe for concurrent use.
type Documents struct {
	store  *paramstore.Store
	writer *paramstore.Writer
	prefix string
}

var _ registrator.Documents = (*Documents)(nil)

// New returns the Documents in a Store.
func New(cfg Config) *Documents {
	return &Documents{store: cfg.Store, writer: cfg.Store.Writer(cfg.Writer), prefix: cfg.Prefix}
}

// Put stores a document. It is tried up to six times while Parameter Store throttles. The error is a *paramstore.Error but where the
// context left no time, and holds nothing of the document.
func (d *Documents) Put(ctx context.Context, path string, document []byte) (version int64, err error) {
	err = retry(ctx, func() error {
		version, err = d.writer.Put(ctx, path, document)
		return err
	})
	return version, err
}

// Delete removes a document, tried as Put does. One that is gone is no error.
func (d *Documents) Delete(ctx context.Context, path string) error {
	return retry(ctx, func() error { return d.writer.Delete(ctx, path) })
}

// Page lists up to 50 of the documents. A token that AWS no longer knows begins again.
func (d *Documents) Page(ctx context.Context, token string) (page []registrator.Stored, next string, err error) {
	if d.prefix == "" {
		return nil, "", nil
	}
	err = retry(ctx, func() error {
		p, err := d.store.Describe(ctx, d.prefix, token)
		page, next = nil, p.Next
		for _, e := range p.Entries {
			page = append(page, registrator.Stored{Path: e.Name, Version: e.Version, Ours: e.Ours})
		}
		return err
	})
	return page, next, err
}

// retry makes a call again while it is throttled. The error of the last try says so if there were several.
func retry(ctx context.Context, call func() error) error {
	pause := apicall.Backoff{Next: firstBackoff, Most: maxBackoff}
	for try := 1; ; try++ {
		err := call()
		if err == nil {
			return nil
		}
		if try == maxTries || !errors.Is(err, paramstore.ErrThrottled) || !pause.Wait(ctx) {
			if try > 1 {
				err = fmt.Errorf("tried %d times: %w", try, err)
			}
			return err
		}
	}
}
