// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// pageSize is the most that DescribeParameters returns at once.
const pageSize = 50

// Entry is a parameter without its value.
type Entry struct {
	Name    string
	Version int64
	// Ours says that a Writer stored its newest version.
	Ours bool
}

// Page is a part of a listing.
type Page struct {
	// Entries may be few or none although there are more pages.
	Entries []Entry
	// Next gets the next page. Empty: this was the last one.
	Next string
}

// Describe lists up to 50 of the parameters below prefix, which is a path
// ("/mesh", all of its depths) or, without a leading slash, the beginning of a
// name. An empty token asks for the first page, as does one that AWS no longer
// knows: a caller that goes round the pages over hours need not care how long a
// token lives.
func (s *Store) Describe(ctx context.Context, prefix, token string) (Page, error) {
	page, err := s.describe(ctx, prefix, token)
	if err != nil && token != "" && err.code == "InvalidNextToken" {
		page, err = s.describe(ctx, prefix, "")
	}
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

func (s *Store) describe(ctx context.Context, prefix, token string) (Page, *Error) {
	c, ctx, cancel := s.begin(ctx, "DescribeParameters", prefix)
	defer cancel()
	key, option := "Path", "Recursive"
	if !strings.HasPrefix(prefix, "/") {
		key, option = "Name", "BeginsWith"
	}
	in := &ssm.DescribeParametersInput{
		MaxResults: aws.Int32(pageSize),
		ParameterFilters: []types.ParameterStringFilter{
			{Key: &key, Option: &option, Values: []string{prefix}},
		},
	}
	if token != "" {
		in.NextToken = &token
	}
	out, err := s.client.DescribeParameters(ctx, in)
	if err != nil {
		return Page{}, c.failed(err)
	}
	page := Page{Next: aws.ToString(out.NextToken)}
	for _, p := range out.Parameters {
		page.Entries = append(page.Entries, Entry{
			Name: aws.ToString(p.Name), Version: p.Version, Ours: aws.ToString(p.Description) == mark,
		})
	}
	return page, nil
}
