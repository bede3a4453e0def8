# SPDX-License-Identifier: MPL-2.0

# The metrics in ConsulLambda/Registrator are those that the registrator writes into its log with CONSUL_LAMBDA_METRICS=emf.

locals {
  run_seconds = var.sync_frequency_in_minutes * 60

  # No full run in three times the schedule. A period is at most a day: beyond that, several of them.
  heartbeat_seconds = 3 * local.run_seconds
  heartbeat_period  = min(local.heartbeat_seconds, 86400)
  heartbeat_periods = ceil(local.heartbeat_seconds / 86400)

  # As the registrator itself judges it: a run writes a certificate, and a function reads it.
  leaf_life_left = coalesce(var.alarm_leaf_life_left_seconds, 2 * (local.run_seconds + 60 * var.extension_refresh_frequency_in_minutes))

  alarms = { for name, alarm in {
    errors = {
      wanted      = true
      description = "The registrator failed in two periods of its schedule in a row. Its log says what is left undone."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = var.name }
      statistic   = "Sum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      period      = local.run_seconds
      periods     = 2
      missing     = "notBreaching"
    }
    heartbeat = {
      wanted      = var.metrics == "emf"
      description = "The registrator has finished no full run for three times its schedule: nothing is renewed."
      namespace   = "ConsulLambda/Registrator"
      metric      = "FullRuns"
      dimensions  = { FunctionName = var.name }
      statistic   = "Sum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      period      = local.heartbeat_period
      periods     = local.heartbeat_periods
      missing     = "breaching"
    }
    leaf-life = {
      wanted      = var.metrics == "emf" && local.data_prefix != ""
      description = "A function's certificate is about to expire: its registrator does not get or store a newer one."
      namespace   = "ConsulLambda/Registrator"
      metric      = "LeafLifeLeftSeconds"
      dimensions  = { FunctionName = var.name }
      statistic   = "Minimum"
      comparison  = "LessThanThreshold"
      threshold   = local.leaf_life_left
      period      = local.run_seconds
      periods     = 1
      missing     = "ignore" # heartbeat says when there is no news
    }
    failures = {
      wanted      = local.own_queue
      description = "Events that the registrator could not handle wait in its queue of failures."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = "${var.name}-failures" }
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      period      = 300
      periods     = 1
      missing     = "notBreaching"
    }
  } : name => alarm if alarm.wanted && var.create_alarms }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
  tags                = var.tags
}
