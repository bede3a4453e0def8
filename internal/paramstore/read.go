// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// A Reader reads one parameter. It is safe for concurrent use.
type Reader struct {
	store *Store
	name  string
}

// Reader returns a Reader for the parameter of that name.
func (s *Store) Reader(name string) *Reader { return &Reader{store: s, name: name} }

// Fetch returns the parameter's newest value, decrypted. The caller owns the
// slice. It makes one attempt; the error is an *Error.
func (r *Reader) Fetch(ctx context.Context) ([]byte, error) {
	c, ctx, cancel := r.store.begin(ctx, "GetParameter", r.name)
	defer cancel()
	out, err := r.store.client.GetParameter(ctx, &ssm.GetParameterInput{
		Name:           &r.name,
		WithDecryption: aws.Bool(true),
	})
	switch {
	case err != nil:
		return nil, c.failed(err)
	case out.Parameter == nil || out.Parameter.Value == nil:
		return nil, c.failure(kindMalformed, errors.New("the answer has no value"))
	}
	return []byte(*out.Parameter.Value), nil
}
