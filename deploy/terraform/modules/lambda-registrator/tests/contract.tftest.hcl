# SPDX-License-Identifier: MPL-2.0

mock_provider "aws" {
  source = "../../testdata/mocks"
}

variables {
  name             = "reg"
  consul_http_addr = "https://consul.example.com:8501"
  # Any file will do: nothing is uploaded.
  zip_path = "versions.tf"
}

run "with_the_predecessors_arguments_only_its_defaults_hold" {
  assert {
    condition = aws_lambda_function.registration.environment[0].variables == tomap({
      CONSUL_HTTP_ADDR         = "https://consul.example.com:8501"
      NODE_NAME                = "lambdas"
      ENTERPRISE               = "false"
      LOG_LEVEL                = "info"
      CONSUL_LAMBDA_POLICY     = "sync"
      CONSUL_LAMBDA_SCHEDULE   = "10m"
      CONSUL_REFRESH_FREQUENCY = "5m"
      CONSUL_LAMBDA_METRICS    = "emf"
    })
    error_message = "environment: ${jsonencode(aws_lambda_function.registration.environment[0].variables)}"
  }
  assert {
    condition     = aws_lambda_function.registration.reserved_concurrent_executions == -1
    error_message = "Concurrency is reserved that nobody asked for."
  }
  assert {
    condition     = aws_lambda_function.registration.timeout == 300
    error_message = "The timeout is ${aws_lambda_function.registration.timeout}."
  }
  assert {
    condition     = aws_lambda_function.registration.architectures == tolist(["x86_64"])
    error_message = "The architecture is not the predecessor's."
  }
  assert {
    condition     = length(aws_lambda_function.registration.vpc_config) == 0
    error_message = "The function is in a VPC that nobody named."
  }
  assert {
    condition     = aws_lambda_function.registration.package_type == "Zip" && aws_lambda_function.registration.runtime == "provided.al2023"
    error_message = "A zip is not run as one."
  }
}

run "the_policy_without_documents_and_secrets" {
  assert {
    condition = { for s in jsondecode(aws_iam_policy.policy.policy).Statement : s.Sid => "${s.Effect} ${join(",", s.Action)} on ${join(",", flatten([s.Resource]))}" } == {
      FindFunctions  = "Allow lambda:ListFunctions,tag:GetResources on *"
      ReadFunctions  = "Allow lambda:GetFunction,lambda:ListTags on arn:aws:lambda:us-east-1:123456789012:function:*"
      WriteLog       = "Allow logs:CreateLogStream,logs:PutLogEvents on arn:aws:logs:us-east-1:123456789012:log-group:mocked:*"
      ReportFailures = "Allow sqs:SendMessage on arn:aws:sqs:us-east-1:123456789012:mocked"
    }
    error_message = aws_iam_policy.policy.policy
  }
}

run "everything_reaches_the_function" {
  variables {
    consul_datacenter                      = "dc7"
    consul_ca_cert_path                    = "/consul/ca"
    consul_http_token_path                 = "consul-token"
    consul_extension_data_prefix           = "/mesh/"
    consul_extension_data_tier             = "Advanced"
    node_name                              = "functions"
    enterprise                             = true
    partitions                             = ["default", "east"]
    timeout                                = 900
    memory_size                            = 512
    reserved_concurrent_executions         = 1
    sync_frequency_in_minutes              = 1
    subnet_ids                             = ["subnet-1"]
    security_group_ids                     = ["sg-1"]
    tags                                   = { team = "net" }
    arch                                   = "arm64"
    kms_key_arn                            = "arn:aws:kms:us-east-1:123456789012:key/documents"
    consul_secrets_kms_key_arns            = ["arn:aws:kms:us-east-1:123456789012:key/secrets"]
    policy                                 = "dry-run"
    max_deletes                            = 3
    extension_refresh_frequency_in_minutes = 15
    page_size                              = 25
    rate_limits                            = { lambda = 1, get_function = 2, tagging = 3, ssm_put = 4, consul = 0 }
    log_level                              = "debug"
    environment                            = { CONSUL_NAMESPACE = "ns1", NODE_NAME = "mine" }
    metrics                                = "off"
    alarm_actions                          = ["arn:aws:sns:us-east-1:123456789012:alarms"]
    log_group_name                         = "/logs/reg"
    log_retention_in_days                  = 7
    log_kms_key_arn                        = "arn:aws:kms:us-east-1:123456789012:key/logs"
    maximum_retry_attempts                 = 0
    maximum_event_age_in_seconds           = 60
  }

  assert {
    condition = aws_lambda_function.registration.environment[0].variables == tomap({
      CONSUL_HTTP_ADDR                = "https://consul.example.com:8501"
      CONSUL_HTTP_SSL                 = "true"
      CONSUL_NAMESPACE                = "ns1"
      NODE_NAME                       = "mine"
      DATACENTER                      = "dc7"
      ENTERPRISE                      = "true"
      PARTITIONS                      = "default,east"
      LOG_LEVEL                       = "debug"
      PAGE_SIZE                       = "25"
      CONSUL_CACERT_PATH              = "/consul/ca"
      CONSUL_HTTP_TOKEN_PATH          = "consul-token"
      CONSUL_EXTENSION_DATA_PREFIX    = "/mesh"
      CONSUL_EXTENSION_DATA_TIER      = "Advanced"
      CONSUL_LAMBDA_KMS_KEY_ID        = "arn:aws:kms:us-east-1:123456789012:key/documents"
      CONSUL_LAMBDA_MAX_DELETES       = "3"
      CONSUL_LAMBDA_POLICY            = "dry-run"
      CONSUL_LAMBDA_SCHEDULE          = "1m"
      CONSUL_REFRESH_FREQUENCY        = "15m"
      CONSUL_LAMBDA_METRICS           = "off"
      CONSUL_LAMBDA_RATE_LAMBDA       = "1"
      CONSUL_LAMBDA_RATE_GET_FUNCTION = "2"
      CONSUL_LAMBDA_RATE_TAGGING      = "3"
      CONSUL_LAMBDA_RATE_SSM_PUT      = "4"
      CONSUL_LAMBDA_RATE_CONSUL       = "0"
    })
    error_message = "environment: ${jsonencode(aws_lambda_function.registration.environment[0].variables)}"
  }
  assert {
    condition = (aws_lambda_function.registration.timeout == 900 && aws_lambda_function.registration.memory_size == 512 &&
      aws_lambda_function.registration.reserved_concurrent_executions == 1 &&
      aws_lambda_function.registration.architectures == tolist(["arm64"]) &&
      aws_lambda_function.registration.tags == tomap({ team = "net" }) &&
      aws_lambda_function.registration.vpc_config[0].subnet_ids == toset(["subnet-1"]) &&
    aws_lambda_function.registration.vpc_config[0].security_group_ids == toset(["sg-1"]))
    error_message = "The function is not as its variables say."
  }
  assert {
    condition = (aws_cloudwatch_log_group.registration.name == "/logs/reg" && aws_cloudwatch_log_group.registration.retention_in_days == 7 &&
      aws_cloudwatch_log_group.registration.kms_key_id == "arn:aws:kms:us-east-1:123456789012:key/logs" &&
    aws_lambda_function.registration.logging_config[0].log_group == "/logs/reg")
    error_message = "The log is not as its variables say."
  }
  assert {
    condition = (aws_lambda_function_event_invoke_config.registration.maximum_retry_attempts == 0 &&
      aws_lambda_function_event_invoke_config.registration.maximum_event_age_in_seconds == 60 &&
    alltrue([for target in aws_cloudwatch_event_target.this : target.retry_policy[0].maximum_event_age_in_seconds == 60]))
    error_message = "Events are not retried as the variables say."
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this["reg-cron"].schedule_expression == "rate(1 minute)"
    error_message = "EventBridge wants a singular: ${aws_cloudwatch_event_rule.this["reg-cron"].schedule_expression}"
  }
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["errors", "failures"]
    error_message = "Without metrics there are no alarms on them: ${join(", ", keys(aws_cloudwatch_metric_alarm.this))}"
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_actions == toset(["arn:aws:sns:us-east-1:123456789012:alarms"])])
    error_message = "An alarm tells nobody."
  }
}

run "the_policy_with_everything" {
  variables {
    consul_ca_cert_path          = "/consul/ca"
    consul_http_token_path       = "consul-token"
    consul_extension_data_prefix = "/mesh"
    subnet_ids                   = ["subnet-1"]
    security_group_ids           = ["sg-1"]
    kms_key_arn                  = "arn:aws:kms:us-east-1:123456789012:key/documents"
    consul_secrets_kms_key_arns  = ["arn:aws:kms:us-east-1:123456789012:key/secrets"]
    failure_destination          = { arn = "arn:aws:sns:us-east-1:123456789012:failures", service = "sns" }
  }

  assert {
    condition = { for s in jsondecode(aws_iam_policy.policy.policy).Statement : s.Sid => "${s.Effect} ${join(",", s.Action)} on ${join(",", flatten([s.Resource]))}" } == {
      FindFunctions            = "Allow lambda:ListFunctions,tag:GetResources on *"
      ReadFunctions            = "Allow lambda:GetFunction,lambda:ListTags on arn:aws:lambda:us-east-1:123456789012:function:*"
      WriteLog                 = "Allow logs:CreateLogStream,logs:PutLogEvents on arn:aws:logs:us-east-1:123456789012:log-group:mocked:*"
      ReadConsulSecrets        = "Allow ssm:GetParameter on arn:aws:ssm:us-east-1:123456789012:parameter/consul/ca,arn:aws:ssm:us-east-1:123456789012:parameter/consul-token"
      DecryptConsulSecrets     = "Allow kms:Decrypt on arn:aws:kms:us-east-1:123456789012:key/secrets"
      KeepDocuments            = "Allow ssm:PutParameter,ssm:DeleteParameter on arn:aws:ssm:us-east-1:123456789012:parameter/mesh/*"
      ListDocuments            = "Allow ssm:DescribeParameters on *"
      EncryptDocuments         = "Allow kms:Encrypt,kms:GenerateDataKey on arn:aws:kms:us-east-1:123456789012:key/documents"
      JoinVPC                  = "Allow ec2:AssignPrivateIpAddresses,ec2:CreateNetworkInterface,ec2:DeleteNetworkInterface,ec2:DescribeNetworkInterfaces,ec2:DescribeSubnets,ec2:UnassignPrivateIpAddresses on *"
      KeepCodeOffTheNetworkAPI = "Deny ec2:AssignPrivateIpAddresses,ec2:CreateNetworkInterface,ec2:DeleteNetworkInterface,ec2:DescribeNetworkInterfaces,ec2:DescribeSubnets,ec2:UnassignPrivateIpAddresses on *"
      ReportFailures           = "Allow sns:Publish on arn:aws:sns:us-east-1:123456789012:failures"
    }
    error_message = aws_iam_policy.policy.policy
  }
  assert {
    condition = { for s in jsondecode(aws_iam_policy.policy.policy).Statement : s.Sid => jsonencode(s.Condition) if can(s.Condition) } == {
      DecryptConsulSecrets = jsonencode({ StringEquals = {
        "kms:ViaService"                      = ["ssm.us-east-1.amazonaws.com"]
        "kms:EncryptionContext:PARAMETER_ARN" = ["arn:aws:ssm:us-east-1:123456789012:parameter/consul/ca", "arn:aws:ssm:us-east-1:123456789012:parameter/consul-token"]
      } })
      EncryptDocuments = jsonencode({
        StringEquals = { "kms:ViaService" = ["ssm.us-east-1.amazonaws.com"] }
        StringLike   = { "kms:EncryptionContext:PARAMETER_ARN" = "arn:aws:ssm:us-east-1:123456789012:parameter/mesh/*" }
      })
      KeepCodeOffTheNetworkAPI = jsonencode({ ArnEquals = { "lambda:SourceFunctionArn" = "arn:aws:lambda:us-east-1:123456789012:function:reg" } })
    }
    error_message = aws_iam_policy.policy.policy
  }
  assert {
    condition     = length(aws_sqs_queue.failures) == 0 && aws_lambda_function_event_invoke_config.registration.destination_config[0].on_failure[0].destination == "arn:aws:sns:us-east-1:123456789012:failures"
    error_message = "A destination was given, and is not used."
  }
}

run "in_china_every_arn_is_of_its_partition" {
  state_key = "china" # nothing of another partition in it
  variables {
    consul_ca_cert_path          = "/consul/ca"
    consul_extension_data_prefix = "/mesh"
    kms_key_arn                  = "arn:aws-cn:kms:cn-north-1:123456789012:key/documents"
  }
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }
  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }
  override_resource {
    target = aws_cloudwatch_log_group.registration
    values = { arn = "arn:aws-cn:logs:cn-north-1:123456789012:log-group:mocked" }
  }
  override_resource {
    target = aws_sqs_queue.failures
    values = { arn = "arn:aws-cn:sqs:cn-north-1:123456789012:mocked" }
  }

  assert {
    condition     = !strcontains(aws_iam_policy.policy.policy, "arn:aws:") && strcontains(aws_iam_policy.policy.policy, "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/mesh/*")
    error_message = aws_iam_policy.policy.policy
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_policy.policy.policy).Statement : s.Condition.StringEquals["kms:ViaService"] if s.Sid == "EncryptDocuments"] == [["ssm.cn-north-1.amazonaws.com", "ssm.cn-north-1.amazonaws.com.cn"]]
    error_message = aws_iam_policy.policy.policy
  }
}

run "in_govcloud_every_arn_is_of_its_partition" {
  state_key = "govcloud"
  variables {
    consul_ca_cert_path          = "/consul/ca"
    consul_extension_data_prefix = "/mesh"
  }
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-us-gov", dns_suffix = "amazonaws.com" }
  }
  override_data {
    target = data.aws_region.current
    values = { id = "us-gov-west-1" }
  }
  override_resource {
    target = aws_cloudwatch_log_group.registration
    values = { arn = "arn:aws-us-gov:logs:us-gov-west-1:123456789012:log-group:mocked" }
  }
  override_resource {
    target = aws_sqs_queue.failures
    values = { arn = "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:mocked" }
  }

  assert {
    condition     = !strcontains(aws_iam_policy.policy.policy, "arn:aws:") && strcontains(aws_iam_policy.policy.policy, "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/consul/ca")
    error_message = aws_iam_policy.policy.policy
  }
}

run "events_and_schedule" {
  # Create, delete, tag, untag and aliases with any date, but not their neighbours, and not what failed.
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.this["reg-lambda_events"].event_pattern) == {
      source      = ["aws.lambda"]
      detail-type = ["AWS API Call via CloudTrail"]
      detail = {
        eventSource = ["lambda.amazonaws.com"]
        errorCode   = [{ exists = false }]
        eventName = [
          "CreateFunction", "DeleteFunction", "TagResource", "UntagResource", "CreateAlias", "UpdateAlias", "DeleteAlias",
          { prefix = "CreateFunction20" }, { prefix = "DeleteFunction20" }, { prefix = "TagResource20" }, { prefix = "UntagResource20" },
          { prefix = "CreateAlias20" }, { prefix = "UpdateAlias20" }, { prefix = "DeleteAlias20" },
        ]
      }
    }
    error_message = aws_cloudwatch_event_rule.this["reg-lambda_events"].event_pattern
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this["reg-cron"].schedule_expression == "rate(10 minutes)"
    error_message = aws_cloudwatch_event_rule.this["reg-cron"].schedule_expression
  }
  assert {
    condition     = { for name, target in aws_cloudwatch_event_target.this : name => target.rule } == { "Process CloudTrail events" = "reg-lambda-events-rule", "Periodic sync" = "reg-cron-rule" }
    error_message = "A rule has no target."
  }
  assert {
    condition = (aws_lambda_permission.cloudtrail_invoke.source_arn == aws_cloudwatch_event_rule.this["reg-lambda_events"].arn &&
      aws_lambda_permission.cron_invoke.source_arn == aws_cloudwatch_event_rule.this["reg-cron"].arn &&
    aws_lambda_permission.cron_invoke.principal == "events.amazonaws.com" && aws_lambda_permission.cloudtrail_invoke.function_name == "reg")
    error_message = "A rule may not invoke the function."
  }
  assert {
    condition = (aws_lambda_function_event_invoke_config.registration.maximum_retry_attempts == 2 &&
      aws_lambda_function_event_invoke_config.registration.maximum_event_age_in_seconds == 3600 &&
      aws_lambda_function_event_invoke_config.registration.destination_config[0].on_failure[0].destination == aws_sqs_queue.failures[0].arn &&
    alltrue([for target in aws_cloudwatch_event_target.this : target.dead_letter_config[0].arn == aws_sqs_queue.failures[0].arn]))
    error_message = "What fails ends nowhere."
  }
  assert {
    condition     = aws_cloudwatch_log_group.registration.retention_in_days == 30 && aws_cloudwatch_log_group.registration.name == "/consul-lambda/reg"
    error_message = "The log is not as documented."
  }
}

run "alarms" {
  variables {
    extension_refresh_frequency_in_minutes = 10
    consul_extension_data_prefix           = "/mesh"
    sync_frequency_in_minutes              = 60
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.this : name =>
      "${alarm.namespace} ${alarm.metric_name} ${alarm.statistic} ${alarm.comparison_operator} ${alarm.threshold}, ${alarm.evaluation_periods} x ${alarm.period} s, missing ${alarm.treat_missing_data}" } == {
      errors    = "AWS/Lambda Errors Sum GreaterThanThreshold 0, 2 x 3600 s, missing notBreaching"
      heartbeat = "ConsulLambda/Registrator FullRuns Sum LessThanThreshold 1, 1 x 10800 s, missing breaching"
      leaf-life = "ConsulLambda/Registrator LeafLifeLeftSeconds Minimum LessThanThreshold 8400, 1 x 3600 s, missing ignore"
      failures  = "AWS/SQS ApproximateNumberOfMessagesVisible Maximum GreaterThanThreshold 0, 1 x 300 s, missing notBreaching"
    }
    error_message = jsonencode({ for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm })
  }
  assert {
    condition = jsonencode({ for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.dimensions }) == jsonencode({
      errors = { FunctionName = "reg" }, heartbeat = { FunctionName = "reg" }, leaf-life = { FunctionName = "reg" }, failures = { QueueName = "reg-failures" }
    })
    error_message = "An alarm looks at another thing."
  }
}

run "a_heartbeat_of_more_than_a_day_is_several_periods" {
  variables {
    consul_extension_data_prefix = "/mesh"
    sync_frequency_in_minutes    = 1440
    alarm_leaf_life_left_seconds = 1000
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["heartbeat"].period == 86400 && aws_cloudwatch_metric_alarm.this["heartbeat"].evaluation_periods == 3
    error_message = "CloudWatch takes periods of a day at most."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["leaf-life"].threshold == 1000
    error_message = "alarm_leaf_life_left_seconds has no effect."
  }
}

run "no_alarms" {
  variables {
    create_alarms = false
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) == 0
    error_message = "There are alarms that nobody wants."
  }
}

run "an_image_in_place_of_a_zip" {
  variables {
    zip_path      = ""
    ecr_image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/registrator:1"
  }

  assert {
    condition = (aws_lambda_function.registration.package_type == "Image" && aws_lambda_function.registration.runtime == null &&
    aws_lambda_function.registration.image_uri == "123456789012.dkr.ecr.us-east-1.amazonaws.com/registrator:1")
    error_message = "The image is not used."
  }
}

run "a_zip_in_a_bucket" {
  variables {
    zip_path          = ""
    s3_bucket         = "releases"
    s3_key            = "registrator.zip"
    s3_object_version = "3"
  }

  assert {
    condition = (aws_lambda_function.registration.package_type == "Zip" && aws_lambda_function.registration.s3_bucket == "releases" &&
    aws_lambda_function.registration.s3_key == "registrator.zip" && aws_lambda_function.registration.s3_object_version == "3")
    error_message = "The bucket is not used."
  }
}

run "the_variables_of_the_docker_dance_change_nothing" {
  variables {
    private_ecr_repo_name           = "mine"
    consul_lambda_registrator_image = "public.ecr.aws/hashicorp/consul-lambda-registrator:0.1.0-beta6"
    docker_host                     = "unix:///var/run/docker.sock"
  }

  assert {
    condition     = aws_lambda_function.registration.package_type == "Zip"
    error_message = "An image is used."
  }
}

run "auto_publishing_is_warned_of" {
  command = plan
  variables {
    enable_auto_publish_ecr_image = true
  }
  expect_failures = [check.needless_variables]
}

run "without_code_there_is_no_plan" {
  command = plan
  variables {
    zip_path = ""
  }
  expect_failures = [aws_lambda_function.registration]
}

run "two_packages_are_one_too_many" {
  command = plan
  variables {
    ecr_image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/registrator:1"
  }
  expect_failures = [aws_lambda_function.registration]
}

run "half_a_bucket" {
  command = plan
  variables {
    s3_key = "registrator.zip"
  }
  expect_failures = [aws_lambda_function.registration]
}

run "half_a_vpc" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  expect_failures = [aws_lambda_function.registration]
}

run "values_that_cannot_be" {
  command = plan
  variables {
    name                                   = "a name"
    consul_extension_data_prefix           = "mesh"
    consul_extension_data_tier             = "Premium"
    timeout                                = 901
    reserved_concurrent_executions         = 0
    sync_frequency_in_minutes              = 0.5
    arch                                   = "amd64"
    memory_size                            = 64
    kms_key_arn                            = "arn:aws:kms:us-east-1:123456789012:alias/mine"
    consul_secrets_kms_key_arns            = ["alias/mine"]
    policy                                 = "yes"
    max_deletes                            = 0
    extension_refresh_frequency_in_minutes = 0
    page_size                              = 51
    rate_limits                            = { consul = -1 }
    log_level                              = "loud"
    metrics                                = "on"
    maximum_retry_attempts                 = 3
    maximum_event_age_in_seconds           = 59
    failure_destination                    = { arn = "arn:aws:s3:::b", service = "s3" }
  }
  expect_failures = [
    var.name, var.consul_extension_data_prefix, var.consul_extension_data_tier, var.timeout, var.reserved_concurrent_executions,
    var.sync_frequency_in_minutes, var.arch, var.memory_size, var.kms_key_arn, var.consul_secrets_kms_key_arns, var.policy, var.max_deletes,
    var.page_size, var.rate_limits, var.log_level, var.metrics, var.maximum_retry_attempts, var.maximum_event_age_in_seconds,
    var.failure_destination, var.extension_refresh_frequency_in_minutes,
  ]
}
