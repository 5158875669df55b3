# frozen_string_literal: true

# What the Vagrantfile knows apart from Vagrant: the settings, the table of nodes, and which addresses
# VirtualBox gives to a host-only network.

require "digest"
require "ipaddr"
require "socket"
require "yaml"

module MesostkVagrant
  # Each is overridden by the same key of vagrant.yml beside the Vagrantfile, and that by the
  # environment: MESOSTK_VAGRANT_MASTER_MEMORY=1024.
  DEFAULTS = {
    "name" => "vagrant",       # begins the names of what the docker provider makes
    "box" => "debian",         # debian, ubuntu, or the name of any box
    "subnet" => "10.0.3.0/24", # the tutorial's addresses
    "masters" => 3,
    "agents" => 3,
    "edge" => false,           # .60 for Mesos-DNS and .61 for marathon-lb instead of the masters
    "cpus" => 1,
    "master_memory" => 2048,   # MiB
    "agent_memory" => 2048,
    "edge_memory" => 512,
    "provision" => true,       # run playbooks/site.yml after the last machine
  }.freeze

  BOXES = { "debian" => "debian/bookworm64", "ubuntu" => "bento/ubuntu-24.04" }.freeze

  # Without a file that says otherwise, VirtualBox allows these (since 6.1.28).
  VIRTUALBOX_RANGES = ["192.168.56.0/21"].freeze
  VIRTUALBOX_FILE = "/etc/vbox/networks.conf"

  module_function

  def settings(file, environment)
    found = File.file?(file) ? YAML.safe_load(File.read(file)) || {} : {}
    unknown = found.keys - DEFAULTS.keys
    raise "#{file}: #{unknown.first} is not known; there are #{DEFAULTS.keys.join(', ')}" if unknown.any?

    DEFAULTS.to_h do |key, default|
      name = "MESOSTK_VAGRANT_#{key.upcase}"
      value = environment.fetch(name, found.fetch(key, default))
      [key, typed(environment.key?(name) ? name : "#{file}: #{key}", value, default)]
    end
  end

  def typed(where, value, default)
    case default
    when Integer
      Integer(value.to_s, exception: false) || raise("#{where}: #{value.inspect} is not a whole number")
    when true, false
      words = { "true" => true, "yes" => true, "1" => true, "false" => false, "no" => false, "0" => false }
      words.fetch(value.to_s) { raise "#{where}: #{value.inspect}; use yes or no" }
    else
      value.to_s
    end
  end

  # Name, address, memory and groups of each machine, in the order in which they are made.
  def nodes(settings)
    subnet = IPAddr.new(settings["subnet"])
    address = ->(last) { IPAddr.new(subnet.to_i + last, Socket::AF_INET).to_s }
    edge_groups = %w[mesos_dns marathon_lb]
    master_groups = %w[zookeeper mesos_masters marathon] + (settings["edge"] ? [] : edge_groups)
    table = (1..settings["masters"]).map do |n|
      { name: "mesos-master#{n}", ip: address.(10 + n), memory: settings["master_memory"], groups: master_groups }
    end
    table += (1..settings["agents"]).map do |n|
      { name: "mesos-slave#{n}", ip: address.(50 + n), memory: settings["agent_memory"], groups: %w[mesos_agents] }
    end
    return table unless settings["edge"]

    table + [
      { name: "mesos-dns", ip: address.(60), memory: settings["edge_memory"], groups: %w[mesos_dns] },
      { name: "mesos-lb", ip: address.(61), memory: settings["edge_memory"], groups: %w[marathon_lb] },
    ]
  end

  # Groups as the playbooks know them: name => machines or, for parents, `name:children` => groups.
  def groups(nodes)
    members = Hash.new { |all, group| all[group] = [] }
    nodes.each { |node| node[:groups].each { |group| members[group] << node[:name] } }
    control_plane = %w[zookeeper mesos_masters marathon]
    members.merge(
      "control_plane:children" => control_plane,
      "cluster:children" => ["control_plane"] + (members.keys - control_plane)
    )
  end

  # The name that mesostk/ops/lab_image.py gives to the image of the recipe in `directory`.
  def image(directory, suite = "bookworm")
    digest = Digest::SHA256.new.update(suite)
    %w[build customize entrypoint images.py packages registry.yml].each do |name|
      content = File.binread(File.join(directory, name))
      digest.update("\0#{name}\0#{content.bytesize}\0").update(content)
    end
    "mesostk-lab:#{digest.hexdigest[0, 12]}"
  end

  # Why VirtualBox will refuse `ip`, with what to write where; nil if it will not.
  def why_not_virtualbox(ip, subnet, file = VIRTUALBOX_FILE)
    lines = File.file?(file) ? File.readlines(file, chomp: true).grep(/^\s*\*/) : []
    allowed = lines.any? ? lines.flat_map { |line| line.delete("*").split } : VIRTUALBOX_RANGES
    return if allowed.any? { |range| IPAddr.new(range).include?(IPAddr.new(ip)) }

    "VirtualBox does not allow #{ip}: it allows #{allowed.join(' ')}.\n" \
      "Write the line\n\n  * #{subnet}\n\nto #{file} (as root), " \
      "or choose other addresses: MESOSTK_VAGRANT_SUBNET=192.168.56.0/24"
  end
end
