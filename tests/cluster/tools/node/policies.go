package main

import (
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
)

// enforce turns NetworkPolicies into nftables rules of this network namespace, whenever pods, namespaces or policies
// change. A pod that has not been seen yet neither sends nor receives.
func enforce(server, ca, certificate, key, pods string) error {
	client, err := apiClient(ca, certificate, key)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	var seen struct {
		pods       mirror[pod]
		namespaces mirror[namespace]
		policies   mirror[policy]
	}
	go seen.pods.follow(client, server+"/api/v1/pods", func(p *pod) *meta { return &p.Metadata }, changed)
	go seen.namespaces.follow(client, server+"/api/v1/namespaces", func(n *namespace) *meta { return &n.Metadata }, changed)
	go seen.policies.follow(client, server+"/apis/networking.k8s.io/v1/networkpolicies",
		func(p *policy) *meta { return &p.Metadata }, changed)
	last := ""
	for range changed {
		var w world
		var known [3]bool
		w.pods, known[0] = seen.pods.list()
		w.namespaces, known[1] = seen.namespaces.list()
		w.policies, known[2] = seen.policies.list()
		if known != [3]bool{true, true, true} {
			continue
		}
		rules := w.rules(pods)
		if rules == last {
			continue
		}
		if err := apply(rules); err != nil {
			return err
		}
		last = rules
	}
	return nil
}

// apply replaces the table in one transaction.
func apply(rules string) error {
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader("table ip interlock-policies\ndelete table ip interlock-policies\n" + rules)
	if said, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, said, rules)
	}
	fmt.Fprintln(os.Stderr, "applied")
	return nil
}

type world struct {
	pods       []pod
	namespaces []namespace
	policies   []policy
}

func (w *world) rules(podRange string) string {
	sort.Slice(w.pods, func(i, j int) bool { return w.pods[i].Metadata.UID < w.pods[j].Metadata.UID })
	sort.Slice(w.policies, func(i, j int) bool { return w.policies[i].Metadata.UID < w.policies[j].Metadata.UID })
	var known, jumpsOut, jumpsIn, chains []string
	for index := range w.pods {
		p := &w.pods[index]
		if !p.hasAddress() {
			continue
		}
		ip := p.Status.PodIP
		known = append(known, ip)
		if lines, isolated := w.allowed(p, "Egress"); isolated {
			name := "egress-" + ip
			jumpsOut = append(jumpsOut, fmt.Sprintf("ip saddr %s jump %s", ip, name))
			chains = append(chains, chain(name, append(lines, "drop")))
		}
		if lines, isolated := w.allowed(p, "Ingress"); isolated {
			name := "ingress-" + ip
			jumpsIn = append(jumpsIn, fmt.Sprintf("ip daddr %s jump %s", ip, name))
			chains = append(chains, chain(name, append(lines, "drop")))
		}
	}
	elements := ""
	if len(known) > 0 {
		elements = "elements = { " + strings.Join(known, ", ") + " };"
	}
	unknown := []string{
		fmt.Sprintf("ip saddr %s ip saddr != @known drop", podRange),
		fmt.Sprintf("ip daddr %s ip daddr != @known drop", podRange),
	}
	established := []string{"ct state established,related accept"}
	forward := concat([]string{"type filter hook forward priority filter;"}, established, unknown, jumpsOut, jumpsIn)
	// To the node itself: what a pod may not send, it may not send there either.
	input := concat([]string{"type filter hook input priority filter;"}, established, unknown[:1], jumpsOut)
	chains = append(chains, chain("forward", forward), chain("input", input))
	return "table ip interlock-policies {\nset known { type ipv4_addr; " + elements + " }\n" +
		strings.Join(chains, "") + "}\n"
}

// allowed is the rules that let a pod's traffic pass, and whether any policy isolates it in that direction at all.
func (w *world) allowed(p *pod, direction string) (lines []string, isolated bool) {
	for index := range w.policies {
		policy := &w.policies[index]
		if policy.Metadata.Namespace != p.Metadata.Namespace || !policy.Spec.PodSelector.matches(p.Metadata.Labels) {
			continue
		}
		for _, kind := range policy.Spec.PolicyTypes {
			isolated = isolated || kind == direction
		}
		rules := policy.Spec.Ingress
		if direction == "Egress" {
			rules = policy.Spec.Egress
		}
		for _, rule := range rules {
			for _, peer := range w.peers(policy.Metadata.Namespace, rule, direction) {
				for _, port := range rule.ports(p, direction) {
					lines = append(lines, peer+port+"return")
				}
			}
		}
	}
	return lines, isolated
}

// peers is one match for each group of peers that a rule allows.
func (w *world) peers(own string, rule rule, direction string) []string {
	peers, field := rule.From, "ip saddr "
	if direction == "Egress" {
		peers, field = rule.To, "ip daddr "
	}
	if len(peers) == 0 {
		return []string{""}
	}
	var matches []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			match := field + peer.IPBlock.CIDR + " "
			for _, except := range peer.IPBlock.Except {
				match += field + "!= " + except + " "
			}
			matches = append(matches, match)
			continue
		}
		if found := w.addresses(own, peer); len(found) > 0 {
			matches = append(matches, field+"{ "+strings.Join(found, ", ")+" } ")
		}
	}
	return matches
}

func (w *world) addresses(own string, peer peer) []string {
	in := map[string]bool{own: peer.NamespaceSelector == nil}
	if peer.NamespaceSelector != nil {
		for _, n := range w.namespaces {
			in[n.Metadata.Name] = peer.NamespaceSelector.matches(n.Metadata.Labels)
		}
	}
	var found []string
	for index := range w.pods {
		p := &w.pods[index]
		selected := peer.PodSelector == nil || peer.PodSelector.matches(p.Metadata.Labels)
		if selected && in[p.Metadata.Namespace] && p.hasAddress() {
			found = append(found, p.Status.PodIP)
		}
	}
	return found
}

func chain(name string, lines []string) string {
	return fmt.Sprintf("chain %s {\n%s\n}\n", name, strings.Join(lines, "\n"))
}

func concat(parts ...[]string) []string {
	var all []string
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
