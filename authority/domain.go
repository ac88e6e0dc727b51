package authority

import (
	"errors"
	"fmt"
	"slices"
)

// ErrDomain means that an authority is not the one that vouches for identities of
// this domain.
var ErrDomain = errors.New("this authority does not vouch for identities of that domain")

// MaxDomains of one authority.
const MaxDomains = 32

// CheckDomains looks at the domains of all authorities of a configuration, given in
// its order, so that no identity can come from two of them: one that issues badges
// for guests shall not name the owner's people. It returns them in lower case, or
// what is wrong with the i-th authority's j-th domain; j is -1 where it is that
// there are none.
func CheckDomains(all [][]string) (canonical [][]string, i, j int, err error) {
	taken := map[string]bool{}
	without := -1
	for i, domains := range all {
		if len(domains) > MaxDomains {
			return nil, i, -1, fmt.Errorf("%d domains: at most %d are allowed", len(domains), MaxDomains)
		}
		if len(domains) == 0 {
			if without >= 0 {
				return nil, i, -1, errors.New("two authorities would vouch for the same people: give all but one the domains of theirs")
			}
			without = i
		}
		var lower []string
		for j, text := range domains {
			domain, ok := canonicalDomain(text)
			switch {
			case !ok:
				return nil, i, j, fmt.Errorf("%.64q is no domain: want one such as \"example.net\"", text)
			case taken[domain]:
				return nil, i, j, fmt.Errorf("%q is listed twice", domain)
			}
			taken[domain] = true
			lower = append(lower, domain)
		}
		canonical = append(canonical, lower)
	}
	return canonical, 0, 0, nil
}

// Of returns the authority that may vouch for a canonical identity, nil for none.
func (s *Set) Of(id string) *Authority {
	_, kind, err := Canonical(id)
	if s == nil || err != nil {
		return nil
	}
	for _, a := range s.all {
		if s.vouchesFor(&Person{Authority: a.name, ID: id, Kind: kind}) == nil {
			return a
		}
	}
	return nil
}

// vouchesFor holds an identity against the domains: one that lists some vouches
// for those alone; one that lists none, for what is on nobody's list.
func (s *Set) vouchesFor(p *Person) error {
	domain := domainOf(p.ID, p.Kind)
	for _, a := range s.all {
		listed := slices.Contains(a.domains, domain)
		own := a.name == p.Authority
		if own && len(a.domains) > 0 && !listed || !own && listed {
			return ErrDomain
		}
	}
	return nil
}
